//! Items as they lie in memory, turned into numbers to count with, and into text.

use ndshare::Element;
use ndshare::element::{Number, Order};

/// Turns items into numbers: as many as there is room for.
pub(super) type Convert<T> = fn(&[u8], &mut [T]);

/// Whether complex numbers become their magnitudes, or two numbers each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    Magnitude,
    Both,
}

fn each<const N: usize, T>(bytes: &[u8], out: &mut [T], of: impl Fn([u8; N]) -> T) {
    for (to, from) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *to = of(*from);
    }
}

/// The table of numbers that can be looked at: how the bytes of each are read.
macro_rules! conversions {
    ($name:ident $out:ident; $($number:ident $type:ident;)*) => {
        /// How such items are converted; none for what cannot be shown.
        pub(super) fn $name(element: &Element, parts: Parts) -> Option<Convert<$out>> {
            use Order::{Big, Little};
            let &Element::Number(number, order) = element else { return None };
            Some(match (number, order, parts) {
                $(
                    (Number::$number, Little, _) => |b, o| each(b, o, |x| $type::from_le_bytes(x) as $out),
                    (Number::$number, Big, _) => |b, o| each(b, o, |x| $type::from_be_bytes(x) as $out),
                )*
                (Number::Bool, ..) => |b, o| each(b, o, |[x]| $out::from(u8::from(x != 0))),
                (Number::F16, Little, _) => |b, o| each(b, o, |x| $out::from(half(u16::from_le_bytes(x)))),
                (Number::F16, Big, _) => |b, o| each(b, o, |x| $out::from(half(u16::from_be_bytes(x)))),
                (Number::Bf16, Little, _) => |b, o| each(b, o, |x| $out::from(brain(u16::from_le_bytes(x)))),
                (Number::Bf16, Big, _) => |b, o| each(b, o, |x| $out::from(brain(u16::from_be_bytes(x)))),
                (Number::C64, Little, Parts::Both) => |b, o| each(b, o, |x| f32::from_le_bytes(x) as $out),
                (Number::C64, Big, Parts::Both) => |b, o| each(b, o, |x| f32::from_be_bytes(x) as $out),
                (Number::C128, Little, Parts::Both) => |b, o| each(b, o, |x| f64::from_le_bytes(x) as $out),
                (Number::C128, Big, Parts::Both) => |b, o| each(b, o, |x| f64::from_be_bytes(x) as $out),
                (Number::C64, Little, Parts::Magnitude) => {
                    |b, o| each::<8, _>(b, o, |x| length(pair(x).map(|x| f32::from_le_bytes(x).into())) as $out)
                }
                (Number::C64, Big, Parts::Magnitude) => {
                    |b, o| each::<8, _>(b, o, |x| length(pair(x).map(|x| f32::from_be_bytes(x).into())) as $out)
                }
                (Number::C128, Little, Parts::Magnitude) => {
                    |b, o| each::<16, _>(b, o, |x| length(pair(x).map(|x| f64::from_le_bytes(x).into())) as $out)
                }
                (Number::C128, Big, Parts::Magnitude) => {
                    |b, o| each::<16, _>(b, o, |x| length(pair(x).map(|x| f64::from_be_bytes(x).into())) as $out)
                }
                (Number::F128 | Number::C256, ..) => return None,
            })
        }
    };
}

conversions! { single f32; U8 u8; I8 i8; U16 u16; I16 i16; U32 u32; I32 i32; U64 u64; I64 i64; F32 f32; F64 f64; }
conversions! { double f64; U8 u8; I8 i8; U16 u16; I16 i16; U32 u32; I32 i32; U64 u64; I64 i64; F32 f32; F64 f64; }

/// Of a complex number. In 64 bits, as the squares of 32 would overflow from 1e19 on, and be zero up to 1e-23.
fn length([re, im]: [f64; 2]) -> f64 {
    (re * re + im * im).sqrt()
}

/// The two halves of an item.
fn pair<const N: usize, const M: usize>(bytes: [u8; N]) -> [[u8; M]; 2] {
    [0, M].map(|at| std::array::from_fn(|byte| bytes[at + byte]))
}

/// A number in half precision.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, u32::from(bits >> 10 & 31), u32::from(bits & 1023));
    match exponent {
        0 => f32::from_bits(sign | (fraction as f32 * (-24_f32).exp2()).to_bits()),
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// One item as text, with all its digits; none for what cannot be shown.
pub(super) fn text(element: &Element, item: &[u8]) -> Option<String> {
    let &Element::Number(number, order) = element else { return None };
    let mut word = [0; 8];
    let mut integer = |is_signed: bool| {
        let size = number.size();
        let bytes = word.get_mut(..size)?;
        bytes.copy_from_slice(item.get(..size)?);
        if order == Order::Big {
            bytes.reverse();
        }
        let bits = u64::from_le_bytes(word);
        let shift = 64 - 8 * size as u32;
        Some(if is_signed { ((bits << shift) as i64 >> shift).to_string() } else { bits.to_string() })
    };
    match number {
        Number::Bool => Some((item.first()? != &0).to_string()),
        Number::U8 | Number::U16 | Number::U32 | Number::U64 => integer(false),
        Number::I8 | Number::I16 | Number::I32 | Number::I64 => integer(true),
        Number::F16 | Number::Bf16 | Number::F32 | Number::C64 => {
            let mut parts = [0_f32; 2];
            single(element, Parts::Both)?(item, &mut parts);
            Some(joined(parts, number))
        }
        Number::F64 | Number::C128 => {
            let mut parts = [0_f64; 2];
            double(element, Parts::Both)?(item, &mut parts);
            Some(joined(parts, number))
        }
        Number::F128 | Number::C256 => None,
    }
}

/// A number, or a complex one, as Python shows it.
fn joined<T: std::fmt::Display + std::fmt::Debug>([re, im]: [T; 2], number: Number) -> String {
    if number.is_complex() { format!("{re:?}{im:+?}j") } else { format!("{re:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_read_in_both_orders() {
        let cases: [(&str, &[u8], f64, &str); 14] = [
            ("|u1", &[200], 200.0, "200"),
            ("|i1", &[0xfe], -2.0, "-2"),
            ("|b1", &[7], 1.0, "true"),
            ("<u2", &[1, 2], 513.0, "513"),
            (">u2", &[2, 1], 513.0, "513"),
            ("<i4", &[0xff, 0xff, 0xff, 0xff], -1.0, "-1"),
            (">i8", &[0x80, 0, 0, 0, 0, 0, 0, 1], -9_223_372_036_854_775_807.0, "-9223372036854775807"),
            ("<f2", &[0x00, 0x3e], 1.5, "1.5"),
            (">f2", &[0x00, 0x01], 5.960_464_477_539_063e-8, "5.9604645e-8"),
            ("bfloat16", &[0xc0, 0x3f], 1.5, "1.5"),
            ("<f4", &[0, 0, 0xc0, 0x3f], 1.5, "1.5"),
            (">f8", &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0], 1.5, "1.5"),
            ("<c8", &[0, 0, 0x40, 0x40, 0, 0, 0x80, 0xc0], 5.0, "3.0-4.0j"),
            (
                ">c16",
                &[0x44, 0xb0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                2_f64.powi(76),
                "7.555786372591432e22+0.0j",
            ),
        ];
        for (name, bytes, value, shown) in cases {
            let element: Element = name.parse().unwrap();
            let mut out = [0.0];
            double(&element, Parts::Magnitude).unwrap()(bytes, &mut out);
            assert_eq!(out[0], value, "{name}");
            let mut out = [0.0];
            single(&element, Parts::Magnitude).unwrap()(bytes, &mut out);
            assert_eq!(f64::from(out[0]), f64::from(value as f32), "{name}");
            assert_eq!(text(&element, bytes).as_deref(), Some(shown), "{name}");
        }
        let structure: Element = "[('a', '<u2')]".parse().unwrap();
        assert!(double(&structure, Parts::Both).is_none() && text(&structure, &[0, 0]).is_none());
        assert!(text(&"<u8".parse().unwrap(), &[1]).is_none(), "bytes are missing");
    }
}
