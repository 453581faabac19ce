//! Keys as things: what may be a key, and which thing the bytes of a key are.

use super::key::Key;
use super::key_form::{
    BYTES, ELLIPSIS, ENUM, FLOAT, KeyWriter, LARGE, MAX_DEPTH, NONE, POSIX_PATH, SLICE, SMALL, TEXT, TUPLE, Text, UUID,
    WINDOWS_PATH, is_negative, negate,
};
use crate::error::{Error, Result};
use crate::varint::{Reader, unzigzag};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What can be a key: numbers, booleans, texts, bytes, paths, `Option`, tuples of these, and every [`KeyValue`].
///
/// Two things are one key where a dict of Python takes their counterparts for equal. So all numbers are one key where
/// they are equal (`1`, `1.0`, `true`), and `None` is Python's. Everything else has its type in the key: `"1"`, `b"1"` and
/// the path `1` are three.
pub trait ToKey {
    /// Writes this as one item.
    ///
    /// # Errors
    /// `InvalidValue` for NaN, and for items that lie more than 64 deep in each other.
    fn write_to(&self, writer: &mut KeyWriter) -> Result<()>;
}

impl Key {
    /// The key that a thing is.
    ///
    /// # Errors
    /// `InvalidValue` for NaN, for more than 64 items in each other, and for more than
    /// [`MAX_TEXT_BYTES`](super::MAX_TEXT_BYTES) bytes.
    pub fn of(thing: &(impl ToKey + ?Sized)) -> Result<Self> {
        let mut writer = KeyWriter::new();
        thing.write_to(&mut writer)?;
        writer.finish()
    }

    /// What it was made of.
    ///
    /// # Errors
    /// As [`KeyValue::decode`].
    pub fn value(&self) -> Result<KeyValue> {
        KeyValue::decode(self.bytes())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value() {
            Ok(value) => value.fmt(f),
            Err(_) => write!(f, "{self:?}"),
        }
    }
}

/// What a key is made of. Its text is for people; it looks like Python's.
///
/// ```
/// use ndshare::cache::{Key, KeyValue};
///
/// # fn main() -> ndshare::Result<()> {
/// let range = KeyValue::Slice(Box::new([KeyValue::Int(0), KeyValue::Int(5), KeyValue::None]));
/// let key = Key::of(&("tile", range))?;
/// assert_eq!(key.value()?.to_string(), r#"("tile", slice(0, 5, None))"#);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub enum KeyValue {
    /// Python's `None`.
    None,
    /// Python's `...`.
    Ellipsis,
    /// An int, or a boolean as 0 or 1.
    Int(i64),
    /// An int beyond 64 bits: little-endian bytes in two's complement.
    LargeInt(Vec<u8>),
    /// A float. One that is a whole number is the same key as that int.
    Float(f64),
    /// A text.
    Text(Text<'static>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A tuple.
    Tuple(Vec<KeyValue>),
    /// A slice: start, stop, step.
    Slice(Box<[KeyValue; 3]>),
    /// A POSIX path, in the normal form of Python's `pathlib`.
    PosixPath(Text<'static>),
    /// A Windows path, in the normal form of Python's `pathlib`, in lower case.
    WindowsPath(Text<'static>),
    /// A member of an enum of Python: the names of its module and class, and its own name, or its value without one.
    Enum {
        /// The module that the class is in.
        module: Text<'static>,
        /// The class by its qualified name.
        class: Text<'static>,
        /// The member's name, or its value without one.
        member: Box<KeyValue>,
    },
    /// A UUID.
    Uuid([u8; 16]),
}

impl KeyValue {
    /// What a key with these bytes was made of.
    ///
    /// # Errors
    /// `InvalidValue` when the bytes are no key.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let value = take_item(&mut reader, 0).filter(|_| reader.rest().is_empty());
        value.ok_or_else(|| {
            Error::value("expected keys of this cache, got bytes that are none: something wrote over its memory")
        })
    }
}

/// Values are equal where they are one key.
impl PartialEq for KeyValue {
    fn eq(&self, other: &Self) -> bool {
        matches!((Key::of(self), Key::of(other)), (Ok(mine), Ok(theirs)) if mine == theirs)
    }
}

/// The next item; none where the bytes are no key.
fn take_item(reader: &mut Reader<'_>, depth: usize) -> Option<KeyValue> {
    let (letter, number) = (reader.byte()?, reader.number()?);
    let is_within = depth < MAX_DEPTH;
    Some(match letter {
        NONE => KeyValue::None,
        ELLIPSIS => KeyValue::Ellipsis,
        SMALL => KeyValue::Int(unzigzag(number)),
        LARGE => KeyValue::LargeInt(take(reader, number)?.to_vec()),
        FLOAT => KeyValue::Float(f64::from_le_bytes(take(reader, number)?.try_into().ok()?)),
        TEXT => KeyValue::Text(take_text(reader, number)?),
        BYTES => KeyValue::Bytes(take(reader, number)?.to_vec()),
        POSIX_PATH => KeyValue::PosixPath(take_text(reader, number)?),
        WINDOWS_PATH => KeyValue::WindowsPath(take_text(reader, number)?),
        UUID => KeyValue::Uuid(take(reader, number)?.try_into().ok()?),
        // Each item takes at least two bytes.
        TUPLE if is_within && number <= reader.rest().len() as u64 => {
            KeyValue::Tuple((0..number).map(|_| take_item(reader, depth + 1)).collect::<Option<_>>()?)
        }
        SLICE if is_within => KeyValue::Slice(Box::new(take_three(reader, depth)?)),
        ENUM if is_within => match take_three(reader, depth)? {
            [KeyValue::Text(module), KeyValue::Text(class), member] => {
                KeyValue::Enum { module, class, member: Box::new(member) }
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn take<'a>(reader: &mut Reader<'a>, len: u64) -> Option<&'a [u8]> {
    reader.take(usize::try_from(len).ok()?)
}

fn take_text(reader: &mut Reader<'_>, len: u64) -> Option<Text<'static>> {
    Text::with_surrogates(take(reader, len)?.to_vec()).ok()
}

fn take_three(reader: &mut Reader<'_>, depth: usize) -> Option<[KeyValue; 3]> {
    Some([take_item(reader, depth + 1)?, take_item(reader, depth + 1)?, take_item(reader, depth + 1)?])
}

// ---- things as items

impl ToKey for KeyValue {
    fn write_to(&self, writer: &mut KeyWriter) -> Result<()> {
        match self {
            Self::None => writer.none(),
            Self::Ellipsis => writer.ellipsis(),
            Self::Int(number) => writer.int(*number),
            Self::LargeInt(bytes) => writer.large_int(bytes),
            Self::Float(number) => writer.float(*number)?,
            Self::Text(text) => writer.text(text.clone()),
            Self::Bytes(bytes) => writer.bytes(bytes),
            Self::PosixPath(text) => writer.posix_path(text.clone()),
            Self::WindowsPath(text) => writer.windows_path(text.clone()),
            Self::Uuid(bytes) => writer.uuid(bytes),
            Self::Tuple(items) => {
                writer.begin_tuple(items.len())?;
                items.iter().try_for_each(|item| item.write_to(writer))?;
                writer.end();
            }
            Self::Slice(parts) => {
                writer.begin_slice()?;
                parts.iter().try_for_each(|part| part.write_to(writer))?;
                writer.end();
            }
            Self::Enum { module, class, member } => {
                writer.begin_enum()?;
                writer.text(module.clone());
                writer.text(class.clone());
                member.write_to(writer)?;
                writer.end();
            }
        }
        Ok(())
    }
}

macro_rules! ints {
    ($($type:ty)*) => {
        $(impl ToKey for $type {
            #[inline]
            fn write_to(&self, writer: &mut KeyWriter) -> Result<()> {
                match i64::try_from(*self) {
                    Ok(number) => writer.int(number),
                    // One more byte, so that the sign is never a bit of the number.
                    Err(_) => writer.large_int(&[&self.to_le_bytes()[..], &[sign_of(*self < 0)][..]].concat()),
                }
                Ok(())
            }
        })*
    };
}

#[allow(unused_comparisons, clippy::absurd_extreme_comparisons, reason = "one macro for ints with and without a sign")]
mod ints {
    use super::super::key_form::sign_of;
    use super::{KeyWriter, Result, ToKey};
    ints! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }
}

macro_rules! things {
    ($($type:ty: |$thing:ident, $writer:ident| $write:expr;)*) => {
        $(impl ToKey for $type {
            #[inline]
            fn write_to(&self, $writer: &mut KeyWriter) -> Result<()> {
                let $thing = self;
                $write;
                Ok(())
            }
        })*
    };
}

things! {
    bool: |flag, writer| writer.int((*flag).into());
    f32: |number, writer| writer.float((*number).into())?;
    f64: |number, writer| writer.float(*number)?;
    str: |text, writer| writer.text(text);
    String: |text, writer| writer.text(text.as_str());
    [u8]: |bytes, writer| writer.bytes(bytes);
    Vec<u8>: |bytes, writer| writer.bytes(bytes);
    Path: |path, writer| writer.posix_path(posix_text(path));
}

impl<const N: usize> ToKey for [u8; N] {
    fn write_to(&self, writer: &mut KeyWriter) -> Result<()> {
        self[..].write_to(writer)
    }
}

impl<T: ToKey + ?Sized> ToKey for &T {
    #[inline]
    fn write_to(&self, writer: &mut KeyWriter) -> Result<()> {
        (**self).write_to(writer)
    }
}

impl<T: ToKey> ToKey for Option<T> {
    fn write_to(&self, writer: &mut KeyWriter) -> Result<()> {
        match self {
            Some(thing) => thing.write_to(writer),
            None => KeyValue::None.write_to(writer),
        }
    }
}

macro_rules! tuples {
    ($(($($item:ident)*) $len:literal;)*) => {
        $(impl<$($item: ToKey),*> ToKey for ($($item,)*) {
            #[inline]
            fn write_to(&self, writer: &mut KeyWriter) -> Result<()> {
                #[allow(non_snake_case, reason = "each item has the name of its type")]
                let ($($item,)*) = self;
                writer.begin_tuple($len)?;
                $($item.write_to(writer)?;)*
                writer.end();
                Ok(())
            }
        })*
    };
}

tuples! {
    () 0;
    (A) 1;
    (A B) 2;
    (A B C) 3;
    (A B C D) 4;
    (A B C D E) 5;
    (A B C D E F) 6;
}

/// A path as Python's `str(pathlib.Path(…))` gives it: without empty parts and ".", and each byte that is no UTF-8 as a
/// surrogate.
fn posix_text(path: &Path) -> Text<'static> {
    let bytes = path.as_os_str().as_bytes();
    let root = match bytes {
        // Two slashes may mean something else than one; three don't.
        [b'/', b'/', b'/', ..] => "/",
        [b'/', b'/', ..] => "//",
        [b'/', ..] => "/",
        _ => "",
    };
    let parts = bytes.split(|&byte| byte == b'/').filter(|&part| !part.is_empty() && part != b".");
    let joined = [root.as_bytes(), &parts.collect::<Vec<_>>().join(&b'/')].concat();
    let mut text = Vec::with_capacity(joined.len());
    for chunk in joined.utf8_chunks() {
        text.extend(chunk.valid().as_bytes());
        chunk.invalid().iter().for_each(|byte| text.extend([0xed, 0xb0 | byte >> 6, 0x80 | byte & 0x3f]));
    }
    if text.is_empty() {
        return Text::from(".");
    }
    Text::with_surrogates(text).expect("UTF-8 and surrogates are a text")
}

// ---- for people

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Ellipsis => f.write_str("..."),
            Self::Int(number) => number.fmt(f),
            Self::LargeInt(bytes) => write_hex(f, bytes),
            Self::Float(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{:?}", text.to_string()),
            Self::Bytes(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
            Self::PosixPath(text) => write!(f, "PosixPath({:?})", text.to_string()),
            Self::WindowsPath(text) => write!(f, "WindowsPath({:?})", text.to_string()),
            Self::Tuple(items) if items.len() == 1 => write!(f, "({},)", items[0]),
            Self::Tuple(items) => write_list(f, "", items),
            Self::Slice(parts) => write_list(f, "slice", &parts[..]),
            Self::Enum { module, class, member } => match &**member {
                Self::Text(name) => write!(f, "{module}.{class}.{name}"),
                value => write!(f, "{module}.{class}({value})"),
            },
            Self::Uuid(bytes) => write!(f, "UUID({:032x})", u128::from_be_bytes(*bytes)),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, name: &str, items: &[KeyValue]) -> fmt::Result {
    write!(f, "{name}(")?;
    for (index, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
    }
    f.write_str(")")
}

/// An int of any size in hexadecimal.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let mut magnitude = bytes.to_vec();
    if is_negative(bytes) {
        negate(&mut magnitude);
        f.write_str("-")?;
    }
    let digits: String = magnitude.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    let digits = digits.trim_start_matches('0');
    write!(f, "0x{}", if digits.is_empty() { "0" } else { digits })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cache::MAX_TEXT_BYTES;
    use crate::error::Kind;

    fn key(thing: impl ToKey) -> Key {
        Key::of(&thing).unwrap()
    }

    fn path(text: &str) -> Key {
        Key::of(Path::new(text)).unwrap()
    }

    /// One of each kind, and of each form of ints.
    fn kinds() -> Vec<KeyValue> {
        let text = |text: &str| Text::from(text.to_owned());
        vec![
            KeyValue::None,
            KeyValue::Ellipsis,
            KeyValue::Int(i64::MIN),
            KeyValue::LargeInt(vec![0, 0, 0, 0, 0, 0, 0, 0x80, 0]),
            KeyValue::Float(0.5),
            KeyValue::Text(text("é")),
            KeyValue::Text(Text::with_surrogates(vec![b'a', 0xed, 0xb2, 0x80]).unwrap()),
            KeyValue::Bytes(b"1\xff".to_vec()),
            KeyValue::Tuple(vec![KeyValue::Int(1), KeyValue::Tuple(Vec::new())]),
            KeyValue::Slice(Box::new([KeyValue::None, KeyValue::Int(5), KeyValue::None])),
            KeyValue::PosixPath(text("a/b")),
            KeyValue::WindowsPath(text("c:\\a")),
            KeyValue::Enum { module: text("m"), class: text("Side"), member: Box::new(KeyValue::Text(text("LEFT"))) },
            KeyValue::Uuid([7; 16]),
        ]
    }

    #[test]
    fn numbers_are_one_key_where_they_are_equal() {
        for same in [key(1_u8), key(1_i64), key(1_u128), key(1.0), key(1_f32), key(true)] {
            assert_eq!(same, key(1));
        }
        assert_eq!(key(-0.0), key(0_usize));
        assert_eq!((key(u64::MAX), key(i64::MAX)), (key(i128::from(u64::MAX)), key(i64::MAX as u64)));
        for power in (0..127).chain([62, 63, 64, 65]) {
            assert_eq!(key(2_f64.powi(power)), key(1_u128 << power), "{power}");
            assert_eq!(key(-(2_f64.powi(power))), key(-1_i128 << power), "{power}");
            assert_ne!(key(1_u128 << power), key(-1_i128 << power), "{power}");
        }
        let largest = key(f64::MAX).value().unwrap();
        let KeyValue::LargeInt(bytes) = &largest else { panic!("{largest}") };
        assert_eq!((bytes.len(), &bytes[121..]), (129, &[0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0][..]));
        assert_eq!(key(f64::MIN).value().unwrap().to_string(), format!("-{largest}"));
        assert_eq!(key(f64::INFINITY).value().unwrap().to_string(), "inf");
        assert_eq!(Key::of(&f64::NAN).unwrap_err().kind(), Kind::InvalidValue);
    }

    /// Every way to write an int as bytes with more of its sign is the same key.
    #[test]
    fn ints_have_one_form() {
        for number in [0, 1, -1, 127, 128, -128, -129, i128::from(i64::MIN) - 1, i128::MAX, i128::MIN] {
            let mut long = number.to_le_bytes().to_vec();
            long.extend([if number < 0 { 0xff } else { 0 }; 9]);
            let small = KeyValue::LargeInt(number.to_le_bytes().to_vec());
            assert_eq!((key(&small), key(KeyValue::LargeInt(long))), (key(number), key(number)), "{number}");
        }
        assert_eq!(key(KeyValue::LargeInt(Vec::new())), key(0));
        assert_eq!(
            [vec![], vec![0], vec![0, 1]].map(|bytes| KeyValue::LargeInt(bytes).to_string()),
            ["0x0", "0x0", "0x100"]
        );
    }

    #[test]
    fn what_is_no_number_has_its_type_in_the_key() {
        let mut keys = vec![key("1"), key(*b"1"), key(1), path("1"), key((1,)), key(((1,),)), key(()), key("")];
        keys.extend(kinds().iter().map(key));
        for (at, one) in keys.iter().enumerate() {
            assert_eq!(keys.iter().filter(|other| *other == one).count(), 1, "{at}: {one}");
        }
        assert_eq!(key(None::<i32>), key(KeyValue::None));
        assert_eq!(key(Some("a")), key("a".to_owned()));
        assert_eq!(key(b"a".to_vec()), key(&b"a"[..]));
    }

    #[test]
    fn keys_come_back_as_what_they_were_made_of() {
        for value in kinds() {
            assert_eq!(format!("{:?}", key(&value).value().unwrap()), format!("{value:?}"));
        }
        let all = KeyValue::Tuple(kinds());
        assert_eq!(key(&all).value().unwrap(), all);
        let shown = [
            "None",
            "...",
            "-9223372036854775808",
            "0x8000000000000000",
            "0.5",
            "\"é\"",
            "\"a\u{fffd}\u{fffd}\u{fffd}\"",
            "b\"1\\xff\"",
            "(1, ())",
            "slice(None, 5, None)",
            "PosixPath(\"a/b\")",
            "WindowsPath(\"c:\\\\a\")",
            "m.Side.LEFT",
            "UUID(07070707070707070707070707070707)",
        ];
        assert_eq!(kinds().iter().map(KeyValue::to_string).collect::<Vec<_>>(), shown);
        assert_eq!(key((1,)).to_string(), "(1,)");
    }

    /// As Python has them: `str(pathlib.PurePosixPath(...))`.
    #[test]
    fn paths_are_keys_in_their_normal_form() {
        for (given, normal) in [
            ("a//b/./c/", "a/b/c"),
            ("./a", "a"),
            ("", "."),
            (".", "."),
            ("..", ".."),
            ("/", "/"),
            ("/.", "/"),
            ("//a", "//a"),
            ("///a/../b", "/a/../b"),
        ] {
            assert_eq!(path(given).value().unwrap().to_string(), format!("PosixPath({normal:?})"), "{given:?}");
        }
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"a\x80\xff/\xe2\x82"));
        let bytes = b"a\xed\xb2\x80\xed\xb3\xbf/\xed\xb3\xa2\xed\xb2\x82";
        let KeyValue::PosixPath(text) = Key::of(odd).unwrap().value().unwrap() else { panic!("no path") };
        assert_eq!((text.as_bytes(), text.as_str()), (&bytes[..], None));
        assert!(Text::with_surrogates(&b"\xed\xa0"[..]).is_err() && Text::with_surrogates(&b"a\xff"[..]).is_err());
    }

    #[test]
    fn short_and_long_keys_are_the_same_bytes() {
        for len in [0, 1, 61, 62, 63, 64, 65, 200, MAX_TEXT_BYTES - 9] {
            let text = "x".repeat(len);
            let once = key(text.as_str());
            assert_eq!(once.value().unwrap(), KeyValue::Text(text.clone().into()));
            assert_eq!(&once.bytes()[once.bytes().len() - len..], text.as_bytes());
            assert_eq!(key((text.as_str(), 1)).value().unwrap().to_string(), format!("({text:?}, 1)"));
        }
        assert_eq!(Key::of("x".repeat(MAX_TEXT_BYTES).as_str()).unwrap_err().kind(), Kind::InvalidValue);
    }

    #[test]
    fn items_in_each_other_are_bounded() {
        let nested = |depth: usize| (0..depth).fold(KeyValue::Int(1), |inner, _| KeyValue::Tuple(vec![inner]));
        assert_eq!(key(nested(MAX_DEPTH)).value().unwrap(), nested(MAX_DEPTH));
        assert_eq!(Key::of(&nested(MAX_DEPTH + 1)).unwrap_err().kind(), Kind::InvalidValue);
        let member = Box::new(nested(MAX_DEPTH));
        let within_enum = KeyValue::Enum { module: "m".into(), class: "C".into(), member };
        assert!(Key::of(&within_enum).is_err(), "what can be written can be read");
        let beside = KeyValue::Tuple(vec![nested(MAX_DEPTH - 1); 3]);
        assert_eq!(key(&beside).value().unwrap(), beside);
    }

    #[test]
    fn a_writer_wants_as_many_items_as_it_was_told() {
        for ints in 0..4 {
            let mut writer = KeyWriter::new();
            writer.begin_tuple(2).unwrap();
            (0..ints).for_each(|number| writer.int(number));
            writer.end();
            assert_eq!(
                writer.finish().map_err(|error| error.kind()).err(),
                (ints != 2).then_some(Kind::Misuse),
                "{ints}"
            );
        }
        assert_eq!(KeyWriter::new().finish().unwrap_err().kind(), Kind::Misuse);
    }

    #[test]
    fn other_bytes_are_an_error_and_no_panic() {
        for bytes in kinds().iter().map(|value| key(value).bytes().to_vec()) {
            for len in 0..bytes.len() {
                assert!(KeyValue::decode(&bytes[..len]).is_err(), "{bytes:?} {len}");
            }
            assert!(KeyValue::decode(&[&bytes[..], &[0]].concat()).is_err());
            for (at, noise) in (0..bytes.len()).flat_map(|at| (0..=255).map(move |noise| (at, noise))) {
                let mut bytes = bytes.clone();
                bytes[at] = noise;
                let _ = KeyValue::decode(&bytes).map(|value| value.to_string());
            }
        }
        for bytes in [[TUPLE, 1].repeat(MAX_DEPTH + 9), [SLICE, 0].repeat(1 << 14), [ENUM, 0].repeat(1 << 14)] {
            assert!(KeyValue::decode(&bytes).is_err());
        }
    }
}
