//! Handles: what C has of our objects. Each is the number of an object in a table, in the clothes of a pointer to an opaque
//! type. It is looked up and never followed, and no number is given twice: so a handle that was freed, one of another
//! type, and any other pointer are told apart from those that live.

use ndshare::os::fork::between_forks;
use ndshare::prim::SpinLock;
use ndshare::{Error, Kind, Result};
use std::any::{Any, type_name};
use std::collections::BTreeMap;
use std::ptr::without_provenance_mut;
use std::sync::Arc;

type Object = Arc<dyn Any + Send + Sync>;

struct Table {
    live: BTreeMap<usize, Object>,
    last: usize,
}

/// Locked between forks alone, so that no forked child finds it so. The numbers are no addresses that a program can have.
static TABLE: SpinLock<Table> = SpinLock::new(Table { live: BTreeMap::new(), last: 1 << 63 });

fn with_table<T>(work: impl FnOnce(&mut Table) -> T) -> T {
    between_forks(|| work(&mut TABLE.lock()))
}

/// A handle for an object, which lives until it is taken back.
pub(crate) fn keep<T: Any + Send + Sync>(object: T) -> *mut T {
    let object: Object = Arc::new(object);
    without_provenance_mut(with_table(|table| {
        table.last += 1;
        table.live.insert(table.last, object);
        table.last
    }))
}

/// The object of a handle, which this thread may use even if another one frees it meanwhile.
///
/// # Errors
/// `InvalidValue` for null, `Misuse` for a handle that does not live, `InvalidType` for one of another type.
pub(crate) fn find<T: Any + Send + Sync>(handle: *const T) -> Result<Arc<T>> {
    let expected = name_of::<T>();
    if handle.is_null() {
        return Err(Error::new(Kind::InvalidValue, format!("expected a {expected}, got NULL")));
    }
    let object = with_table(|table| table.live.get(&handle.addr()).cloned()).ok_or_else(was_freed::<T>)?;
    object.downcast().map_err(|_| {
        let text =
            format!("expected a {expected}, got a handle of another type: pass what made or opened a {expected}");
        Error::new(Kind::InvalidType, text)
    })
}

/// Frees a handle. As with C's own `free`, null is none.
///
/// # Errors
/// As [`find`].
pub(crate) fn free<T: Any + Send + Sync>(handle: *mut T) -> Result<()> {
    if handle.is_null() { Ok(()) } else { take(handle).map(drop) }
}

/// Runs `work` on an object that this call alone has meanwhile. If that goes well the handle is freed, else it stays.
///
/// # Errors
/// As [`find`]; `Misuse` when another thread is using it; what `work` says.
pub(crate) fn consume<T: Any + Send + Sync>(handle: *mut T, work: impl FnOnce(&mut T) -> Result<()>) -> Result<()> {
    let mut object = take(handle)?;
    let outcome = Arc::get_mut(&mut object).ok_or_else(is_in_use::<T>).and_then(work);
    if outcome.is_err() {
        with_table(|table| table.live.insert(handle.addr(), object));
    }
    outcome
}

/// The object of a handle that nobody has any more.
///
/// # Errors
/// As [`find`].
pub(crate) fn take<T: Any + Send + Sync>(handle: *mut T) -> Result<Arc<T>> {
    let object = find(handle)?;
    // Of two threads that free it at once, one has freed it before.
    let taken = with_table(|table| table.live.remove(&handle.addr()));
    taken.map(|_| object).ok_or_else(was_freed::<T>)
}

fn name_of<T>() -> &'static str {
    type_name::<T>().rsplit("::").next().unwrap_or_default()
}

#[cold]
fn was_freed<T>() -> Error {
    let text =
        format!("expected a {} that lives, got a handle that was freed before, or never was one", name_of::<T>());
    Error::new(Kind::Misuse, text)
}

#[cold]
fn is_in_use<T>() -> Error {
    let text =
        format!("expected a {} that one thread uses, got one in use by another: let it end first", name_of::<T>());
    Error::new(Kind::Misuse, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct One(u32);
    #[derive(Debug)]
    struct Other;

    #[test]
    fn only_a_handle_that_lives_and_has_the_type_leads_to_its_object() {
        let (one, other) = (keep(One(7)), keep(Other));
        assert_eq!(find(one.cast_const()).unwrap().0, 7);
        let kind_of = |handle: *const One| find(handle).unwrap_err().kind();
        assert_eq!(kind_of(std::ptr::null()), Kind::InvalidValue);
        assert_eq!(kind_of(other.cast()), Kind::InvalidType);
        assert_eq!(kind_of((&raw const kind_of).cast()), Kind::Misuse);
        assert_eq!(free(other.cast::<One>()).unwrap_err().kind(), Kind::InvalidType, "and it frees nothing");
        assert_eq!([free(one), free(other)], [(); 2].map(Ok));
        assert_eq!((kind_of(one), free(one).unwrap_err().kind()), (Kind::Misuse, Kind::Misuse));
        assert_ne!(keep(One(8)), one);
        assert_eq!(free(std::ptr::null_mut::<One>()), Ok(()));
    }

    #[test]
    fn what_is_consumed_is_gone_only_if_that_went_well() {
        let one = keep(One(1));
        let fail = || Error::new(Kind::Full, "no room");
        assert_eq!(
            consume(one, |one| {
                one.0 += 1;
                Err(fail())
            }),
            Err(fail())
        );
        let user = find(one.cast_const()).unwrap();
        assert_eq!(consume(one, |_| Ok(())).unwrap_err().kind(), Kind::Misuse);
        drop(user);
        assert_eq!(consume(one, |one| (one.0 == 2).then_some(()).ok_or_else(fail)), Ok(()));
        assert_eq!(consume(one, |_| Ok(())).unwrap_err().kind(), Kind::Misuse);
    }
}
