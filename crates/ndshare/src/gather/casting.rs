//! Which elements become which: NumPy's casting rules and promotion of numbers, and the conversions that there are.

use crate::element::{Element, Kind, Number, Order};
use crate::error::{self, Error, Result};
use crate::kernel::Cast;
use std::fmt;

/// Which conversions are allowed; NumPy's `casting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Casting {
    /// None at all.
    No,
    /// To another byte order.
    Equiv,
    /// Those that keep every value.
    Safe,
    /// Safe ones, and those within a kind, such as `float64` to `float32`.
    #[default]
    SameKind,
    /// Any.
    Unsafe,
}

impl fmt::Display for Casting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "no",
            Self::Equiv => "equiv",
            Self::Safe => "safe",
            Self::SameKind => "same_kind",
            Self::Unsafe => "unsafe",
        })
    }
}

/// How items of one type become items of another: as they are, or by a conversion.
///
/// # Errors
/// `InvalidType`, in NumPy's words, where the rule does not allow it; and where there is no such conversion here.
pub fn conversion(from: &Element, to: &Element, casting: Casting) -> Result<Option<Cast>> {
    if from == to {
        return Ok(None);
    }
    let native = |element: &Element| match element {
        Element::Number(number, Order::NATIVE) => Some(*number),
        _ => None,
    };
    if let (Element::Number(one, _), Element::Number(other, _)) = (from, to)
        && !is_allowed(*one, *other, casting)
    {
        return Err(type_error(format!(
            "Cannot cast array data from dtype('{}') to dtype('{}') according to the rule '{casting}'",
            from.name(),
            to.name()
        )));
    }
    match (native(from), native(to)) {
        // Signed and unsigned numbers of one size have the same bytes.
        (Some(one), Some(other)) if is_integer(one) && is_integer(other) && one.size() == other.size() => Ok(None),
        (Some(one), Some(other)) if Cast::new(one, other).is_some() => Ok(Cast::new(one, other)),
        _ => Err(type_error(format!(
            "expected items of type {to}, or integers or smaller floats to convert, got {from}: convert them first"
        ))),
    }
}

fn type_error(message: String) -> Error {
    Error::new(error::Kind::InvalidType, message)
}

fn is_integer(number: Number) -> bool {
    matches!(number.kind(), Kind::Signed | Kind::Unsigned)
}

/// Whether a rule lets one number become another.
fn is_allowed(from: Number, to: Number, casting: Casting) -> bool {
    match casting {
        Casting::No | Casting::Equiv => from == to,
        Casting::Safe => promoted(from, to) == Some(to),
        Casting::SameKind => rank(from.kind()) <= rank(to.kind()),
        Casting::Unsafe => true,
    }
}

/// NumPy's order of kinds: each may become those that follow it.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Bool => 0,
        Kind::Unsigned => 1,
        Kind::Signed => 2,
        Kind::Float => 3,
        Kind::Complex => 4,
        _ => 5,
    }
}

/// The element that arrays of these are joined to, by NumPy's promotion.
///
/// # Errors
/// `InvalidType` where there is none, or it is not known here; `InvalidValue` for no elements.
pub fn common_element<'a>(elements: impl IntoIterator<Item = &'a Element>) -> Result<Element> {
    let elements: Vec<&Element> = elements.into_iter().collect();
    let first = *elements.first().ok_or_else(|| Error::value("need at least one array to concatenate"))?;
    let Some(other) = elements.iter().copied().find(|&other| other != first) else { return Ok(first.clone()) };
    let number = |element: &&Element| match element {
        Element::Number(number, _) => Some(*number),
        _ => None,
    };
    let numbers: Option<Vec<Number>> = elements.iter().map(number).collect();
    numbers.and_then(|numbers| common_number(&numbers)).map(Element::of).ok_or_else(|| {
        type_error(format!(
            "expected items of types that have a common one, got {first} and {other}: give an array to write to"
        ))
    })
}

/// What all numbers are promoted to. Each meets the highest kind first, as in NumPy: an int8 and a uint16 do not make an
/// int32 of each other beside a float32, which has room for both.
fn common_number(numbers: &[Number]) -> Option<Number> {
    let highest = *numbers.iter().max_by_key(|number| (rank(number.kind()), number.size()))?;
    numbers.iter().try_fold(highest, |common, &number| promoted(common, promoted(highest, number)?))
}

/// The smallest number that keeps the values of both; NumPy's `promote_types`. None for bfloat16 and a wider integer.
pub fn promoted(one: Number, other: Number) -> Option<Number> {
    let (low, high) = if rank(one.kind()) <= rank(other.kind()) { (one, other) } else { (other, one) };
    let larger = if low.size() > high.size() { low } else { high };
    match (low.kind(), high.kind()) {
        _ if low == high || low.kind() == Kind::Bool => Some(high),
        (Kind::Float, Kind::Float) if low.size() == high.size() => Some(Number::F32),
        (one, other) if one == other => Some(larger),
        (Kind::Unsigned, Kind::Signed) if low.size() < high.size() => Some(high),
        (Kind::Unsigned, Kind::Signed) => Number::of_kind('i', 2 * low.size()).or(Some(Number::F64)),
        (Kind::Unsigned | Kind::Signed, Kind::Float) if high == Number::Bf16 => (low.size() == 1).then_some(high),
        // A float keeps integers of less than its size; from 32 bits on NumPy is content with a double.
        (Kind::Unsigned | Kind::Signed, Kind::Float) => at_least('f', high, (2 * low.size()).min(8)),
        (Kind::Unsigned | Kind::Signed, Kind::Complex) => at_least('c', high, (4 * low.size()).min(16)),
        (Kind::Float, Kind::Complex) => at_least('c', high, 2 * low.size()),
        _ => None,
    }
}

/// The number itself, or one of its kind with `size` bytes if that is more.
fn at_least(kind: char, number: Number, size: usize) -> Option<Number> {
    if number.size() >= size { Some(number) } else { Number::of_kind(kind, size) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use Number::{Bf16, Bool, C64, C128, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};

    #[test]
    fn promotion_is_numpys() {
        let cases = [
            (U8, I8, I16),
            (U16, I8, I32),
            (U32, I32, I64),
            (U64, I8, F64),
            (U8, I16, I16),
            (U8, F16, F16),
            (I16, F16, F32),
            (I32, F16, F64),
            (I32, F32, F64),
            (I16, F32, F32),
            (U64, F32, F64),
            (I8, C64, C64),
            (I32, C64, C128),
            (F64, C64, C128),
            (F16, C64, C64),
            (Bool, U8, U8),
            (Bool, F16, F16),
            (F16, F64, F64),
            (U8, Bf16, Bf16),
            (Bf16, F32, F32),
        ];
        for (one, other, wanted) in cases {
            assert_eq!((promoted(one, other), promoted(other, one)), (Some(wanted), Some(wanted)), "{one:?} {other:?}");
        }
        assert_eq!(promoted(I16, Bf16), None);
        Number::ALL.iter().for_each(|&number| assert_eq!(promoted(number, number), Some(number)));
    }

    /// Pair by pair from the left, the first of these would be a double.
    #[test]
    fn several_numbers_are_promoted_as_numpy_does_it() {
        let cases = [
            (&[I8, U16, F32][..], F32),
            (&[U16, I8, F16], F32),
            (&[U8, I8, F16], F16),
            (&[I8, U16, C64], C64),
            (&[I8, U16, U8], I32),
            (&[I16, Bf16, F32], F32),
        ];
        for (numbers, wanted) in cases {
            let elements: Vec<Element> = numbers.iter().copied().map(Element::of).collect();
            assert_eq!(common_element(&elements).unwrap(), Element::of(wanted), "{numbers:?}");
        }
    }

    #[test]
    fn rules_allow_what_numpy_allows() {
        let way = |from, to, casting| conversion(&Element::of(from), &Element::of(to), casting);
        assert_eq!(way(U16, F32, Casting::Safe), Ok(Cast::new(U16, F32)));
        assert_eq!(way(U8, U8, Casting::No), Ok(None));
        assert_eq!(way(I64, I16, Casting::SameKind), Ok(Cast::new(I64, I16)));
        assert_eq!(way(I16, U16, Casting::Unsafe), Ok(None));
        let error = |from, to, casting| way(from, to, casting).unwrap_err().to_string();
        assert_eq!(
            error(F64, U8, Casting::SameKind),
            "Cannot cast array data from dtype('float64') to dtype('uint8') according to the rule 'same_kind'"
        );
        assert!(error(I16, U16, Casting::SameKind).starts_with("Cannot cast"));
        assert!(error(I64, F32, Casting::Safe).starts_with("Cannot cast"));
        assert!(error(F64, F32, Casting::SameKind).contains("convert them first"));
    }

    #[test]
    fn bytes_of_another_order_or_meaning_are_not_taken_for_numbers() {
        let parse = |text: &str| text.parse::<Element>().unwrap();
        assert!(conversion(&parse(">u2"), &parse("<u2"), Casting::Unsafe).is_err());
        assert!(conversion(&parse("<M8[s]"), &parse("<M8[ns]"), Casting::Unsafe).is_err());
        assert_eq!(conversion(&parse(">u2"), &parse(">u2"), Casting::No), Ok(None));
        assert_eq!(common_element(&[parse("|S3"), parse("|S3")]).unwrap(), parse("|S3"));
        assert!(common_element(&[parse("|S3"), parse("<u2")]).is_err() && common_element(&[]).is_err());
    }
}
