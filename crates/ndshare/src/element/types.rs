//! Elements and structures: an element may be a structure, and a structure has elements.
//!
//! A structure that is packed and has no titles is written as a list of its fields, any other as the dict that
//! `numpy.dtype` takes. Both are checked: names differ, and every field lies inside the structure.

use super::literal::{Literal, MAX_DEPTH, quoted};
use super::number::{Kind, Number, Order, Unit};
use crate::error::{Error, Result};
use crate::layout::MAX_DIMS;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What an item is.
///
/// ```
/// use ndshare::{Element, Number};
///
/// assert_eq!(Element::of(Number::F32), "float32".parse()?);
/// // As NumPy writes it: a structure of a date and three numbers of 4 bytes.
/// let sample: Element = "[('time', '<M8[ns]'), ('gain', '<f4', (3,))]".parse()?;
/// assert_eq!((sample.size(), sample.number()), (20, None));
/// assert!("[('time', '<q8')]".parse::<Element>().is_err());
/// # Ok::<(), ndshare::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Element {
    /// A number.
    Number(Number, Order),
    /// A date, in 64 bits.
    Datetime(Unit, Order),
    /// A span of time, in 64 bits.
    Timedelta(Unit, Order),
    /// So many bytes of text, filled up with zeros.
    Bytes(u32),
    /// So many characters of 4 bytes each.
    Text(u32, Order),
    /// So many bytes of which nothing is known.
    Void(u32),
    /// Named fields.
    Structure(Arc<Structure>),
}

impl Element {
    /// A number in this machine's byte order.
    pub const fn of(number: Number) -> Self {
        Self::Number(number, Order::NATIVE)
    }

    /// Bytes of one item.
    pub fn size(&self) -> usize {
        match self {
            Self::Number(number, _) => number.size(),
            Self::Datetime(..) | Self::Timedelta(..) => 8,
            Self::Bytes(len) | Self::Void(len) => *len as usize,
            Self::Text(len, _) => *len as usize * 4,
            Self::Structure(structure) => structure.size(),
        }
    }

    /// What the address of an item is a multiple of, where the CPU is to read its parts at once.
    pub fn align(&self) -> usize {
        match self {
            Self::Number(number, _) => number.align(),
            Self::Datetime(..) | Self::Timedelta(..) => 8,
            Self::Bytes(_) | Self::Void(_) => 1,
            Self::Text(..) => 4,
            Self::Structure(structure) => structure.align(),
        }
    }

    /// Whether every byte of an item means something: a structure may have holes between its fields.
    pub fn is_solid(&self) -> bool {
        if let Self::Structure(structure) = self { structure.is_solid() } else { true }
    }

    /// How deep its literal nests.
    fn depth(&self) -> usize {
        if let Self::Structure(structure) = self { structure.depth() } else { 1 }
    }

    /// NumPy's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Number(number, _) => number.kind(),
            Self::Datetime(..) => Kind::Datetime,
            Self::Timedelta(..) => Kind::Timedelta,
            Self::Bytes(_) => Kind::Bytes,
            Self::Text(..) => Kind::Text,
            Self::Void(_) | Self::Structure(_) => Kind::Void,
        }
    }

    /// The number that it is in this machine's byte order; none for anything else.
    pub fn number(&self) -> Option<Number> {
        match self {
            Self::Number(number, order) if *order == Order::NATIVE || number.size() == 1 => Some(*number),
            _ => None,
        }
    }

    /// NumPy's name: `"uint16"`, `"datetime64[ns]"`, `"bytes64"`.
    pub fn name(&self) -> String {
        let bits = self.size() * 8;
        match self {
            Self::Number(number, _) => number.name().to_owned(),
            Self::Datetime(unit, _) => format!("datetime64{unit}"),
            Self::Timedelta(unit, _) => format!("timedelta64{unit}"),
            Self::Bytes(_) => format!("bytes{bits}"),
            Self::Text(..) => format!("str{bits}"),
            Self::Void(_) | Self::Structure(_) => format!("void{bits}"),
        }
    }

    fn simple(text: &str) -> Option<Self> {
        if let Some(number) = Number::named(text) {
            return Some(Self::of(number));
        }
        let (order, rest) = match text.chars().next()? {
            '<' => (Order::Little, &text[1..]),
            '>' => (Order::Big, &text[1..]),
            '|' | '=' => (Order::NATIVE, &text[1..]),
            _ => (Order::NATIVE, text),
        };
        let letter = rest.chars().next().filter(char::is_ascii)?;
        let rest = &rest[1..];
        if matches!(letter, 'M' | 'm') {
            let unit = rest.strip_prefix('8')?.parse().ok()?;
            let make = if letter == 'M' { Self::Datetime } else { Self::Timedelta };
            return Some(make(unit, order));
        }
        // No sign: only digits are a size.
        let size: u32 = rest.parse().ok().filter(|_| rest.bytes().all(|byte| byte.is_ascii_digit()))?;
        match letter {
            'S' | 'a' => Some(Self::Bytes(size)),
            'U' => (size <= u32::MAX / 4).then_some(Self::Text(size, order)),
            'V' => Some(Self::Void(size)),
            _ => {
                let number = Number::of_kind(letter, size as usize)?;
                Some(Self::Number(number, if number.size() == 1 { Order::NATIVE } else { order }))
            }
        }
    }
}

impl From<Number> for Element {
    fn from(number: Number) -> Self {
        Self::of(number)
    }
}

impl FromStr for Element {
    type Err = Error;

    /// The element that a text names: NumPy's `dtype.str`, a name such as `"uint16"`, or the literal of a structure.
    ///
    /// # Errors
    /// `InvalidValue` for anything else, and for a structure whose fields do not lie inside it.
    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with(['[', '{']) {
            return Structure::from_str(text).map(|structure| Self::Structure(Arc::new(structure)));
        }
        simple(text)
    }
}

/// An element that is no structure.
fn simple(text: &str) -> Result<Element> {
    Element::simple(text).ok_or_else(|| {
        let start: String = text.chars().take(40).collect();
        Error::value(format!("expected an element type such as \"<u2\", \"float32\" or \"|S8\", got {start:?}"))
    })
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = |order: &Order| order.letter();
        match self {
            Self::Number(number, _) if !number.has_code() => f.write_str(number.name()),
            Self::Number(number, _) if number.size() == 1 => write!(f, "|{}1", number.kind().letter()),
            Self::Number(number, o) => write!(f, "{}{}{}", order(o), number.kind().letter(), number.size()),
            Self::Datetime(unit, o) => write!(f, "{}M8{unit}", order(o)),
            Self::Timedelta(unit, o) => write!(f, "{}m8{unit}", order(o)),
            Self::Bytes(len) => write!(f, "|S{len}"),
            Self::Text(len, o) => write!(f, "{}U{len}", order(o)),
            Self::Void(len) => write!(f, "|V{len}"),
            Self::Structure(structure) => structure.fmt(f),
        }
    }
}

/// A field of a structure.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Another name for it, if any.
    pub title: Option<String>,
    /// Where it begins in the structure, in bytes.
    pub offset: usize,
    /// What it is.
    pub element: Element,
    /// How many of these along each axis; empty: one.
    pub shape: Vec<usize>,
}

/// Named fields at offsets. Its fields lie inside it, and their names differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Structure {
    fields: Vec<Field>,
    size: usize,
    is_aligned: bool,
}

impl Field {
    /// Bytes of the whole field.
    pub fn size(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element.size()
    }

    fn checked_size(&self) -> Option<usize> {
        let count = self.shape.iter().try_fold(1_usize, |count, &length| count.checked_mul(length))?;
        (self.shape.len() <= MAX_DIMS).then_some(())?;
        count.checked_mul(self.element.size())
    }
}

impl Structure {
    /// A structure of `size` bytes; `is_aligned` says that C's compiler would lay it out so.
    ///
    /// # Errors
    /// `InvalidValue` when two names are the same, or a field does not lie inside.
    pub fn new(fields: Vec<Field>, size: usize, is_aligned: bool) -> Result<Self> {
        let mut names: Vec<&str> =
            fields.iter().flat_map(|field| [Some(field.name.as_str()), field.title.as_deref()]).flatten().collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::value(format!("expected fields with names of their own, got {:?} twice", pair[0])));
        }
        let is_inside = |field: &Field| {
            field.checked_size().and_then(|len| len.checked_add(field.offset)).is_some_and(|end| end <= size)
        };
        if let Some(field) = fields.iter().find(|field| !is_inside(field)) {
            return Err(Error::value(format!(
                "expected fields inside a structure of {size} bytes, got {:?} of shape {:?} at {}",
                field.name, field.shape, field.offset
            )));
        }
        if u32::try_from(size).is_err() {
            return Err(Error::value(format!("expected a structure of less than 4 GiB, got {size} bytes")));
        }
        let structure = Self { fields, size, is_aligned };
        if structure.depth() <= MAX_DEPTH {
            return Ok(structure);
        }
        Err(Error::value("expected a structure that nests a few levels, got one that is too deep for its text"))
    }

    /// How deep its literal nests: fields stand in a list, each in a tuple, or lists of their parts in a dict; one with
    /// axes in one more, and beside it are its axes, numbers in a tuple.
    fn depth(&self) -> usize {
        let of = |field: &Field| {
            let depth = field.element.depth();
            if field.shape.is_empty() { depth } else { 1 + depth.max(2) }
        };
        2 + self.fields.iter().map(of).max().unwrap_or(0)
    }

    /// Whether it is to be laid out as C does.
    pub fn is_aligned(&self) -> bool {
        self.is_aligned
    }

    /// Whether its fields fill it without holes, and each is solid itself.
    fn is_solid(&self) -> bool {
        let mut spans: Vec<_> = self.fields.iter().map(|field| (field.offset, field.size())).collect();
        spans.sort_unstable();
        let cover = |end: usize, (offset, size)| (offset <= end).then(|| end.max(offset + size));
        let end = spans.into_iter().try_fold(0, cover);
        end == Some(self.size) && self.fields.iter().all(|field| field.element.is_solid())
    }

    /// The fields in the order of their names' list.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Bytes of the structure.
    pub fn size(&self) -> usize {
        self.size
    }

    /// 1 unless it is laid out as C does.
    pub fn align(&self) -> usize {
        let fields = self.fields.iter().filter(|_| self.is_aligned);
        fields.map(|field| field.element.align()).max().unwrap_or(1)
    }

    /// Whether names and types alone say everything.
    fn is_packed(&self) -> bool {
        let mut end = 0;
        let mut follows = |field: &Field| {
            let follows = field.offset == end && field.title.is_none();
            end += field.size();
            follows
        };
        !self.is_aligned && self.fields.iter().all(&mut follows) && end == self.size
    }

    fn packed(literals: &[Literal]) -> Option<Result<Self>> {
        let (mut fields, mut offset) = (Vec::new(), 0_usize);
        for literal in literals {
            let (name, format) = match literal.items()? {
                [name, format] => (name, format_of(format)?),
                [name, base, shape] => (name, with_axes(base, shape)?),
                _ => return None,
            };
            let (element, shape) = match format {
                Ok(parts) => parts,
                Err(error) => return Some(Err(error)),
            };
            let field = Field { name: name.text()?.to_owned(), title: None, offset, element, shape };
            offset = offset.checked_add(field.checked_size()?)?;
            fields.push(field);
        }
        Some(Self::new(fields, offset, false))
    }

    fn placed(pairs: &[(Literal, Literal)]) -> Option<Result<Self>> {
        let value = |name: &str| pairs.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value);
        let (names, formats) = (value("names")?.items()?, value("formats")?.items()?);
        let (offsets, titles) = (value("offsets")?.items()?, value("titles")?.items()?);
        let is_aligned = *value("aligned")? == Literal::Bool(true);
        let count = names.len();
        (formats.len() == count && offsets.len() == count && titles.len() == count).then_some(())?;
        let mut fields = Vec::new();
        for index in 0..count {
            let (element, shape) = match format_of(&formats[index])? {
                Ok(parts) => parts,
                Err(error) => return Some(Err(error)),
            };
            let title = match &titles[index] {
                Literal::None => None,
                other => Some(other.text()?.to_owned()),
            };
            let (name, offset) = (names[index].text()?.to_owned(), offsets[index].int()?);
            fields.push(Field { name, title, offset, element, shape });
        }
        Some(Self::new(fields, value("itemsize")?.int()?, is_aligned))
    }

    fn of(literal: &Literal) -> Option<Result<Self>> {
        match literal {
            Literal::List(items) => Self::packed(items),
            Literal::Dict(pairs) => Self::placed(pairs),
            _ => None,
        }
    }
}

/// The element and shape of a field.
fn format_of(format: &Literal) -> Option<Result<(Element, Vec<usize>)>> {
    match format {
        // No structure in quotes: each would be parsed anew, and nothing would bound how deep they lie in each other.
        Literal::Text(text) => Some(simple(text).map(|element| (element, Vec::new()))),
        Literal::Tuple(parts) => {
            let [base, shape] = parts.as_slice() else { return None };
            with_axes(base, shape)
        }
        nested => Some(Structure::of(nested)?.map(|structure| (Element::Structure(structure.into()), Vec::new()))),
    }
}

/// The same of a field that is an array of `base`.
fn with_axes(base: &Literal, shape: &Literal) -> Option<Result<(Element, Vec<usize>)>> {
    let shape = match shape {
        Literal::Int(_) => vec![shape.int()?],
        _ => shape.items()?.iter().map(Literal::int).collect::<Option<Vec<_>>>()?,
    };
    // A subarray of subarrays is one of more axes.
    Some(format_of(base)?.map(|(element, inner)| (element, [shape, inner].concat())))
}

impl FromStr for Structure {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Literal::parse(text).and_then(|literal| Self::of(&literal)).unwrap_or_else(|| {
            let start: String = text.chars().take(60).collect();
            Err(Error::value(format!("expected a structure such as [('time', '<i8'), ('gain', '<f4')], got {start:?}")))
        })
    }
}

/// A field's type, as it stands in a literal.
struct Format<'a>(&'a Field);

impl fmt::Display for Format<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = match &self.0.element {
            Element::Structure(structure) => structure.to_string(),
            element => quoted(&element.to_string()),
        };
        match self.0.shape.as_slice() {
            [] => f.write_str(&base),
            [only] => write!(f, "({base}, ({only},))"),
            shape => write!(f, "({base}, ({}))", join(shape, |length| length.to_string())),
        }
    }
}

fn join<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = &self.fields;
        if self.is_packed() {
            return write!(f, "[{}]", join(fields, |field| format!("({}, {})", quoted(&field.name), Format(field))));
        }
        write!(
            f,
            "{{'names': [{}], 'formats': [{}], 'offsets': [{}], 'titles': [{}], 'itemsize': {}, 'aligned': {}}}",
            join(fields, |field| quoted(&field.name)),
            join(fields, |field| Format(field).to_string()),
            join(fields, |field| field.offset.to_string()),
            join(fields, |field| field.title.as_deref().map_or("None".to_owned(), quoted)),
            self.size,
            if self.is_aligned { "True" } else { "False" },
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Each text in quotes was parsed anew, so that nothing bounded how deep structures lay in each other.
    #[test]
    fn a_structure_in_quotes_is_no_format_of_a_field() {
        for text in [r#"[('a', "[('b', '<f4')]")]"#, r#"[('a', ("[('b', '<f4')]", (2,)))]"#] {
            assert!(text.parse::<Element>().is_err(), "{text}");
        }
        assert!("[('a', [('b', '<f4')])]".parse::<Element>().is_ok());
    }

    #[test]
    fn one_of_a_unit_of_time_is_the_unit() {
        let parsed = |text: &str| text.parse::<Element>().unwrap();
        assert_eq!(parsed("<M8[1s]"), parsed("<M8[s]"));
        assert_eq!(parsed("<m8[1ms]").to_string(), "<m8[ms]");
        assert_ne!(parsed("<M8[10s]"), parsed("<M8[s]"));
    }

    #[test]
    fn every_number_is_found_by_name_and_text() {
        for &number in Number::ALL {
            let element = Element::of(number);
            assert_eq!(element.to_string().parse::<Element>().unwrap(), element);
            assert_eq!(number.name().parse::<Element>().unwrap(), element);
            assert_eq!(
                (element.size(), element.align(), element.number()),
                (number.size(), number.align(), Some(number))
            );
            assert!(number.size().is_multiple_of(number.align()));
        }
    }

    #[test]
    fn texts_are_numpys() {
        let texts = [
            ("|b1", 1, "bool"),
            ("|u1", 1, "uint8"),
            (">i4", 4, "int32"),
            ("<f2", 2, "float16"),
            ("<f16", 16, "float128"),
            ("<c8", 8, "complex64"),
            ("<M8[ns]", 8, "datetime64[ns]"),
            (">m8[25s]", 8, "timedelta64[25s]"),
            ("<M8", 8, "datetime64"),
            ("|S8", 8, "bytes64"),
            ("|S0", 0, "bytes0"),
            ("<U3", 12, "str96"),
            ("|V16", 16, "void128"),
        ];
        for (text, size, name) in texts {
            let element: Element = text.parse().unwrap();
            assert_eq!((element.to_string().as_str(), element.size(), element.name().as_str()), (text, size, name));
        }
        assert_eq!("=u2".parse::<Element>().unwrap(), Element::of(Number::U16));
        assert_eq!(">u2".parse::<Element>().unwrap().number(), None);
    }

    /// The documentation shows this form, which `numpy.dtype` prints, and once only the other one was read.
    #[test]
    fn a_field_with_axes_is_read_in_both_of_numpys_forms() {
        for shape in ["3", "(3,)", "(2, 3)"] {
            let three: Element = format!("[('t', '<M8[ns]'), ('gain', '<f4', {shape})]").parse().unwrap();
            let pair: Element = format!("[('t', '<M8[ns]'), ('gain', ('<f4', {shape}))]").parse().unwrap();
            assert_eq!(three, pair, "{shape}");
        }
        assert!("[('gain', '<f4', (3,), 4)]".parse::<Element>().is_err());
    }

    #[test]
    fn other_texts_are_errors() {
        let texts = [
            "",
            "<",
            "|",
            "O8",
            "<u3",
            "<f-2",
            "<f+2",
            "u2u",
            "<M8[parsec]",
            "<M8[0s]",
            "<M8[",
            "<M4[s]",
            "é2",
            "<é",
            "T",
            "|S",
            "|S99999999999",
            "<U4294967295",
            "<M8[9999999999s]",
        ];
        for text in texts {
            assert!(text.parse::<Element>().is_err(), "{text}");
        }
    }

    /// What NumPy's dtypes look like as `ndshare._dtypes` wrote them.
    const TEXTS: [(&str, usize, usize); 7] = [
        ("[('time', '<i8'), ('gain', '<f4')]", 12, 2),
        ("[('a', ('<f4', (3, 2))), ('b', [('x', '|u1'), ('y', ('>i2', (1,)))])]", 27, 2),
        ("[]", 0, 0),
        ("[('it\\'s', '<M8[ns]'), ('é', '<U2'), ('v', '|V0')]", 16, 3),
        (
            "{'names': ['a', 'b'], 'formats': ['|u1', '<f8'], 'offsets': [0, 8], 'titles': [None, None], 'itemsize': 16, \
             'aligned': True}",
            16,
            2,
        ),
        (
            "{'names': ['a'], 'formats': ['<f8'], 'offsets': [4], 'titles': ['first'], 'itemsize': 20, 'aligned': False}",
            20,
            1,
        ),
        (
            "{'names': ['a', 'b'], 'formats': ['<u4', '<u2'], 'offsets': [0, 2], 'titles': [None, None], 'itemsize': 4, \
             'aligned': False}",
            4,
            2,
        ),
    ];

    #[test]
    fn structures_survive_text() {
        for (text, size, fields) in TEXTS {
            let element: Element = text.parse().unwrap();
            let Element::Structure(structure) = &element else { panic!("{text} is no structure") };
            assert_eq!((structure.size(), structure.fields().len()), (size, fields), "{text}");
            assert_eq!(element.to_string(), text);
        }
        let aligned: Element = TEXTS[4].0.parse().unwrap();
        assert_eq!((aligned.align(), aligned.size()), (8, 16));
    }

    #[test]
    fn no_prefix_is_a_structure_and_no_noise_is_a_panic() {
        for (text, ..) in TEXTS {
            for (end, _) in text.char_indices() {
                assert!(text[..end].parse::<Element>().is_err(), "{}", &text[..end]);
            }
            for (at, c) in text.char_indices() {
                for other in ['(', '\'', '9', '{', ','] {
                    let noisy = format!("{}{other}{}", &text[..at], &text[at + c.len_utf8()..]);
                    let _ = noisy.parse::<Element>();
                }
            }
        }
    }

    #[test]
    fn solid_is_what_has_no_holes() {
        let solid = [true, true, true, true, false, false];
        for ((text, ..), solid) in TEXTS.iter().zip(solid) {
            assert_eq!(text.parse::<Element>().unwrap().is_solid(), solid, "{text}");
        }
        let overlapping = "{'names': ['a', 'b'], 'formats': ['<u4', '<u2'], 'offsets': [0, 2], 'titles': [None, None], \
                           'itemsize': 4, 'aligned': False}";
        assert!(overlapping.parse::<Element>().unwrap().is_solid());
    }

    /// A structure was made whose text nobody could read back: once with axes on each level, once with axes on the last
    /// one alone and holes between the fields. A frame of it was published, and no reader could have it.
    #[test]
    fn structures_nest_no_deeper_than_their_text_is_read() {
        let shapes = [vec![], vec![2]];
        let cases = shapes.iter().flat_map(|first| shapes.iter().map(move |rest| (first, rest)));
        for ((first, rest), hole) in cases.flat_map(|shapes| [(shapes, 0), (shapes, 1)]) {
            let (mut element, mut deepest) = (Element::of(Number::U8), 0);
            loop {
                let shape = if deepest == 0 { first } else { rest }.clone();
                let size = element.size() * shape.iter().product::<usize>() + hole;
                let field = Field { name: "a".to_owned(), title: None, offset: 0, element: element.clone(), shape };
                let Ok(structure) = Structure::new(vec![field], size, false) else { break };
                element = Element::Structure(structure.into());
                assert_eq!(
                    element.to_string().parse::<Element>().ok(),
                    Some(element.clone()),
                    "{first:?} {rest:?} {hole}"
                );
                deepest += 1;
            }
            assert!(deepest >= 10, "{deepest}");
        }
    }

    #[test]
    fn fields_lie_inside_and_have_names_of_their_own() {
        let texts = [
            "[('a', '<f4'), ('a', '<f4')]",
            "{'names': ['a'], 'formats': ['<f8'], 'offsets': [4], 'titles': [None], 'itemsize': 8, 'aligned': False}",
            "{'names': ['a'], 'formats': ['<f8'], 'offsets': [18446744073709551615], 'titles': [None], 'itemsize': 8, \
             'aligned': False}",
            "[('a', ('<f8', (4294967296, 4294967296)))]",
            "[('a', ('<f8', (4294967296,)))]",
            "[('a', 'O')]",
            "[('a',)]",
            "[['a', '<f4', 3, 4]]",
            "{'names': ['a'], 'formats': [], 'offsets': [], 'titles': [], 'itemsize': 8, 'aligned': False}",
        ];
        for text in texts {
            assert!(text.parse::<Element>().is_err(), "{text}");
        }
    }
}
