//! What an overlay's memory means: its uses, and the fields of each. Plain data: it knows no addresses.

use super::turns::MAX_USES;
use crate::array::{ALIGN, Description};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::layout::{Layout, MAX_DIMS};
use crate::varint::{Reader, push, push_text};
use std::fmt;

/// One array of a use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    name: String,
    description: Description,
    offset: usize,
    len_bytes: usize,
}

/// A set of arrays that the memory holds at one time, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    name: String,
    fields: Vec<Field>,
}

/// All uses of an overlay.
///
/// ```
/// use ndshare::element::Number;
/// use ndshare::overlay::Uses;
///
/// # fn main() -> ndshare::Result<()> {
/// let uses = Uses::default()
///     .with("floats", [("A", &[3, 4][..], Number::F32), ("B", &[4], Number::F64)])?
///     .with("ints", [("D", [10], Number::I32)])?;
/// // B begins behind the 48 bytes of A, at a multiple of 64.
/// assert_eq!(uses.find("floats")?.1.find("B")?.1.offset(), 64);
/// assert_eq!(uses.len_bytes(), 96);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uses {
    uses: Vec<Use>,
}

impl Field {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape, its strides, and what its items are.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Where in the memory it begins, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes it has.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The field `name` of this shape that begins where one that ends at `end` lets it.
    fn after(end: usize, name: String, shape: &[usize], element: Element) -> Result<Self> {
        let (layout, len_bytes) = Layout::contiguous(shape, element.size())?;
        let offset = end.checked_next_multiple_of(ALIGN).filter(|&offset| isize::try_from(offset).is_ok());
        let offset = offset.ok_or_else(|| Error::value("expected fields of fewer bytes than there are addresses"))?;
        Ok(Self { name, description: Description { layout, element: Some(element) }, offset, len_bytes })
    }

    fn end(&self) -> usize {
        self.offset.saturating_add(self.len_bytes)
    }
}

impl Use {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its fields, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The number of the field of this name, and the field.
    ///
    /// # Errors
    /// `InvalidValue`, with the fields that there are.
    pub fn find(&self, name: &str) -> Result<(usize, &Field)> {
        self.fields.iter().enumerate().find(|(_, field)| field.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.fields.iter().map(Field::name).collect();
            let (names, own) = (names.join(", "), &self.name);
            Error::value(format!("expected a field of use '{own}' ({names}), got '{name}'"))
        })
    }
}

impl Uses {
    /// One more use: its name, and of each field name, shape and element.
    ///
    /// # Errors
    /// `InvalidValue` for names that are there already, a use without fields, more uses than [`MAX_USES`], and fields that
    /// are too large.
    pub fn with<N, S, E>(mut self, name: &str, fields: impl IntoIterator<Item = (N, S, E)>) -> Result<Self>
    where
        N: Into<String>,
        S: AsRef<[usize]>,
        E: Into<Element>,
    {
        if self.uses.iter().any(|other| other.name == name) {
            return Err(Error::value(format!("expected each use once, got '{name}' twice")));
        }
        if self.uses.len() == MAX_USES {
            return Err(self.miscounted(MAX_USES + 1));
        }
        let mut laid: Vec<Field> = Vec::new();
        for (field, shape, element) in fields {
            let field = field.into();
            if laid.iter().any(|other| other.name == field) {
                return Err(Error::value(format!("use '{name}': expected each field once, got '{field}' twice")));
            }
            laid.push(Field::after(laid.last().map_or(0, Field::end), field, shape.as_ref(), element.into())?);
        }
        if laid.is_empty() {
            return Err(Error::value(format!("use '{name}': expected at least one field, got none")));
        }
        self.uses.push(Use { name: name.to_owned(), fields: laid });
        Ok(self)
    }

    /// The uses, in order.
    pub fn all(&self) -> &[Use] {
        &self.uses
    }

    /// The number of the use of this name, and the use.
    ///
    /// # Errors
    /// `InvalidValue`, with the uses that there are.
    pub fn find(&self, name: &str) -> Result<(usize, &Use)> {
        self.uses.iter().enumerate().find(|(_, one)| one.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.uses.iter().map(Use::name).collect();
            Error::value(format!("expected one of the uses {}, got '{name}'", names.join(", ")))
        })
    }

    /// Bytes of the memory: as many as the largest use has.
    pub fn len_bytes(&self) -> usize {
        self.uses.iter().flat_map(Use::fields).map(Field::end).max().unwrap_or(0)
    }

    /// Checks that there is a use.
    ///
    /// # Errors
    /// `InvalidValue` when there is none.
    pub fn check(&self) -> Result<()> {
        if self.uses.is_empty() { Err(self.miscounted(0)) } else { Ok(()) }
    }

    /// As bytes: how many there are, then of each its name and its fields, and of each field its name, its shape and its
    /// element.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, self.uses.len() as u64);
        for one in &self.uses {
            push_text(&mut out, &one.name);
            push(&mut out, one.fields.len() as u64);
            for Field { name, description: Description { layout, element }, .. } in &one.fields {
                push_text(&mut out, name);
                push(&mut out, layout.ndim() as u64);
                layout.shape().iter().for_each(|&length| push(&mut out, length as u64));
                push_text(&mut out, &element.as_ref().map(Element::to_string).unwrap_or_default());
            }
        }
        out
    }

    /// The uses in `bytes`; none when these are no uses that could be.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut uses = Self::default();
        for _ in 0..reader.small::<usize>().filter(|&count| count <= MAX_USES)? {
            let (name, count) = (reader.text()?, reader.small::<usize>()?);
            // Nothing is made beforehand: the count may be anything.
            let fields = (0..count).map(|_| take_field(&mut reader)).collect::<Option<Vec<_>>>()?;
            uses = uses.with(name, fields).ok()?;
        }
        (reader.rest().is_empty() && uses.check().is_ok()).then_some(uses)
    }

    fn miscounted(&self, got: usize) -> Error {
        Error::value(format!("expected 1 to {MAX_USES} uses, each with its fields, got {got}"))
    }
}

impl fmt::Display for Uses {
    /// The uses with the names of their fields: `floats(A, B), ints(D)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |one: &Use| {
            let names: Vec<&str> = one.fields.iter().map(Field::name).collect();
            format!("{}({})", one.name, names.join(", "))
        };
        f.write_str(&self.uses.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}

/// Name, shape and element of a field.
fn take_field<'a>(reader: &mut Reader<'a>) -> Option<(&'a str, Vec<usize>, Element)> {
    let (name, ndim) = (reader.text()?, reader.small::<usize>().filter(|&ndim| ndim <= MAX_DIMS)?);
    let shape = (0..ndim).map(|_| reader.small()).collect::<Option<_>>()?;
    Some((name, shape, reader.text()?.parse().ok()?))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::element::Number::{F32, U8};

    #[test]
    fn uses_survive_bytes_and_noise_is_no_panic() {
        let uses = Uses::default().with("a é", [("x", &[65][..], U8), ("none", &[0, 3], U8), ("y", &[], F32)]).unwrap();
        let structure: Element = "[('t', '<i8'), ('é', '|S3')]".parse().unwrap();
        let uses = uses.with("b", [("x", [3, 100], structure)]).unwrap();
        let bytes = uses.encode();
        assert_eq!(Uses::decode(&bytes), Some(uses));
        (0..bytes.len()).for_each(|len| assert_eq!(Uses::decode(&bytes[..len]), None, "{len}"));
        for (at, noise) in (0..bytes.len()).flat_map(|at| (0..=255).map(move |noise| (at, noise))) {
            let mut bytes = bytes.clone();
            bytes[at] = noise;
            let _ = Uses::decode(&bytes);
        }
        assert_eq!(Uses::decode(&[0]), None, "an overlay has uses");
    }

    fn error(uses: Result<Uses>) -> String {
        uses.unwrap_err().to_string()
    }

    #[test]
    fn fields_follow_each_other_on_cache_lines() {
        let uses = Uses::default()
            .with("a", [("x", &[65][..], U8), ("none", &[0], U8), ("y", &[], F32)])
            .and_then(|uses| uses.with("b", [("x", [3, 100], U8)]))
            .unwrap();
        let places = |number: usize| -> Vec<_> {
            uses.all()[number].fields().iter().map(|field| (field.name(), field.offset(), field.len_bytes())).collect()
        };
        assert_eq!(places(0), [("x", 0, 65), ("none", 128, 0), ("y", 128, 4)]);
        assert_eq!((places(1), uses.len_bytes()), (vec![("x", 0, 300)], 300));
        assert_eq!(uses.find("b").unwrap().0, 1);
        assert_eq!(uses.to_string(), "a(x, none, y), b(x)");
        assert!(uses.check().is_ok());
    }

    #[test]
    fn what_cannot_work_is_an_error_that_names_it() {
        let one = |name: &'static str| Uses::default().with("u", [(name, [1], U8)]);
        assert!(error(one("x").and_then(|uses| uses.with("u", [("y", [1], U8)]))).contains("'u' twice"));
        assert!(error(Uses::default().with("u", [("x", [1], U8), ("x", [2], U8)])).contains("'x' twice"));
        assert!(error(Uses::default().with("u", [] as [(&str, [usize; 1], Element); 0])).contains("got none"));
        assert!(error(Uses::default().check().map(|()| Uses::default())).contains("1 to 60 uses"));
        let full = (0..MAX_USES).try_fold(Uses::default(), |uses, at| uses.with(&at.to_string(), [("x", [1], U8)]));
        assert!(error(full.and_then(|uses| uses.with("more", [("x", [1], U8)]))).contains("got 61"));
        let large = [("x", [usize::MAX >> 1], U8), ("y", [1], U8)];
        assert!(error(Uses::default().with("u", large)).contains("fewer bytes"));
        assert!(error(Uses::default().with("u", [("x", [usize::MAX], F32)])).contains("too big"));
        let uses = one("x").unwrap();
        assert!(uses.find("v").unwrap_err().to_string().contains("one of the uses u, got 'v'"));
        assert!(uses.all()[0].find("z").unwrap_err().to_string().contains("use 'u' (x), got 'z'"));
    }
}
