//! Numbers, their kinds, their byte order; and the units of dates.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// How the bytes of an item are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// The lowest byte first.
    Little,
    /// The highest byte first.
    Big,
}

impl Order {
    /// This machine's.
    pub const NATIVE: Self = if cfg!(target_endian = "little") { Self::Little } else { Self::Big };

    pub(super) fn letter(self) -> char {
        match self {
            Self::Little => '<',
            Self::Big => '>',
        }
    }
}

/// NumPy's kinds of items, each with NumPy's letter for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Bool,
    Signed,
    Unsigned,
    Float,
    Complex,
    Timedelta,
    Datetime,
    Bytes,
    Text,
    Void,
}

impl Kind {
    /// `b`, `i`, `u`, `f`, `c`, `m`, `M`, `S`, `U` or `V`.
    pub fn letter(self) -> char {
        match self {
            Self::Bool => 'b',
            Self::Signed => 'i',
            Self::Unsigned => 'u',
            Self::Float => 'f',
            Self::Complex => 'c',
            Self::Timedelta => 'm',
            Self::Datetime => 'M',
            Self::Bytes => 'S',
            Self::Text => 'U',
            Self::Void => 'V',
        }
    }
}

/// The table of numbers: everything that is said of one is said here.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident $text:literal $kind:ident $size:literal $align:literal;)*) => {
        /// A type of number.
        ///
        /// ```
        /// use ndshare::Number;
        ///
        /// assert_eq!((Number::Bf16.name(), Number::Bf16.size()), ("bfloat16", 2));
        /// assert_eq!(Number::named("complex64"), Some(Number::C64));
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Number {
            $($(#[$doc])* $name,)*
        }

        impl Number {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// NumPy's name: `"uint16"`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What kind of number.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind),* }
            }

            /// Bytes of one number.
            pub const fn size(self) -> usize {
                match self { $(Self::$name => $size),* }
            }

            /// What its address is a multiple of, where the CPU is to read it at once.
            pub const fn align(self) -> usize {
                match self { $(Self::$name => $align),* }
            }
        }
    };
}

numbers! {
    /// A byte that is 0 or 1.
    Bool "bool" Bool 1 1;
    /// An unsigned integer of 8 bits.
    U8 "uint8" Unsigned 1 1;
    /// A signed integer of 8 bits.
    I8 "int8" Signed 1 1;
    /// An unsigned integer of 16 bits.
    U16 "uint16" Unsigned 2 2;
    /// A signed integer of 16 bits.
    I16 "int16" Signed 2 2;
    /// An unsigned integer of 32 bits.
    U32 "uint32" Unsigned 4 4;
    /// A signed integer of 32 bits.
    I32 "int32" Signed 4 4;
    /// An unsigned integer of 64 bits.
    U64 "uint64" Unsigned 8 8;
    /// A signed integer of 64 bits.
    I64 "int64" Signed 8 8;
    /// The half precision of IEEE 754.
    F16 "float16" Float 2 2;
    /// The upper half of an `F32`, as `ml_dtypes` has it.
    Bf16 "bfloat16" Float 2 2;
    /// Single precision.
    F32 "float32" Float 4 4;
    /// Double precision.
    F64 "float64" Float 8 8;
    /// C's `long double`: 80 bits of 128 on x86-64, all of them on aarch64.
    F128 "float128" Float 16 16;
    /// Two `F32`.
    C64 "complex64" Complex 8 4;
    /// Two `F64`.
    C128 "complex128" Complex 16 8;
    /// Two `F128`.
    C256 "complex256" Complex 32 16;
}

impl Number {
    /// The number of this name, in NumPy's words.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|number| number.name() == name)
    }

    /// The number of a kind and size, as NumPy writes it; `Bf16` is none of these.
    pub fn of_kind(kind: char, size: usize) -> Option<Self> {
        let is_it = |number: &Self| number.has_code() && number.kind().letter() == kind && number.size() == size;
        Self::ALL.iter().copied().find(is_it)
    }

    /// Whether it has an imaginary part.
    pub const fn is_complex(self) -> bool {
        matches!(self.kind(), Kind::Complex)
    }

    /// Whether NumPy has a letter and size for it; the others go by name.
    pub(super) fn has_code(self) -> bool {
        self != Self::Bf16
    }
}

/// The unit that dates and spans of time are counted in: `[ns]`, `[25s]`, or none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Unit(Box<str>);

const UNITS: [&str; 13] = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"];

impl FromStr for Unit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let name = inner.map_or("", |inner| inner.trim_start_matches(|c: char| c.is_ascii_digit()));
        let count = inner.map_or("", |inner| &inner[..inner.len() - name.len()]);
        let is_unit = count.len() <= 9 && !count.starts_with('0') && UNITS.contains(&name);
        if !is_unit && !text.is_empty() {
            return Err(Error::value(format!("expected a unit of time such as [ns] or [25s], got {text:?}")));
        }
        // One of a unit is the unit, to NumPy as well.
        Ok(Self(if count == "1" { format!("[{name}]").into() } else { text.into() }))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
