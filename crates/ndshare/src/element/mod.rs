//! What an item of an array is: its name, size, alignment and byte order. The one list of element types.
//!
//! An element is written as NumPy writes a dtype: `<u2` is a 16-bit unsigned integer in little-endian order, `|S8` are
//! eight bytes of text, `<M8[ns]` is a date. A structure is written as the Python literal that `numpy.dtype` takes:
//! `[('time', '<i8'), ('gain', '<f4', (3,))]`. That text is what stands in shared memory, in tokens and in messages, so
//! every language reads the same; parsing checks it before anything believes its size.
//!
//! ```
//! use ndshare::element::{Element, Number};
//!
//! let element: Element = "<u2".parse().unwrap();
//! assert_eq!(element, Element::of(Number::U16));
//! assert_eq!((element.size(), element.name().as_str()), (2, "uint16"));
//! ```

mod literal;
mod number;
mod types;

pub use number::{Kind, Number, Order, Unit};
pub use types::{Element, Field, Structure};
