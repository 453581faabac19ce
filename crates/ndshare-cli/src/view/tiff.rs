//! A picture as a TIFF file: one strip, uncompressed, as every reader takes it.

use ndshare::Element;
use ndshare::element::{Kind, Order};

/// Magic, and where the first directory is.
const HEAD_BYTES: usize = 8;
const ENTRIES: usize = 11;

/// A file of so many rows and columns of pixels, each of `colours` items, which lie row by row in `bytes`.
pub(super) fn file(
    element: &Element,
    [height, width]: [usize; 2],
    colours: usize,
    bytes: &[u8],
) -> Result<Vec<u8>, String> {
    let Element::Number(number, order) = element else { return Err(format!("TIFF has no items of {element}")) };
    let format = match number.kind() {
        Kind::Bool | Kind::Unsigned => 1,
        Kind::Signed => 2,
        Kind::Float if element.size() <= 8 && element.to_string().starts_with(['<', '>']) => 3,
        Kind::Complex if element.size() <= 16 => 6,
        _ => return Err(format!("TIFF has no items of {element}: save as NPY")),
    };
    let is_little = *order == Order::Little;
    let short = |value: u16| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let long = |value: u32| if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
    let lists = HEAD_BYTES + 2 + ENTRIES * 12 + 4;
    let pixels = lists + if colours > 1 { colours * 4 } else { 0 };
    let end = u32::try_from(pixels + bytes.len()).map_err(|_| "TIFF ends at 4 GiB: save as NPY")?;
    let bits = (element.size() * 8) as u16;
    // One short stands in its entry, several elsewhere.
    let each = |value: u16, place: usize| {
        if colours == 1 { [short(value), [0; 2]].concat() } else { long((lists + place * colours * 2) as u32).to_vec() }
    };
    let one = |value: u32| long(value).to_vec();
    let small = |value: u16| [short(value), [0; 2]].concat();
    let (count, extra) = (colours as u32, usize::from(colours == 4));
    let entries: [(u16, u16, u32, Vec<u8>); ENTRIES] = [
        (256, 4, 1, one(width as u32)),
        (257, 4, 1, one(height as u32)),
        (258, 3, count, each(bits, 0)),
        (259, 3, 1, small(1)),
        (262, 3, 1, small(if colours == 1 { 1 } else { 2 })),
        (273, 4, 1, one(pixels as u32)),
        (277, 3, 1, small(colours as u16)),
        (278, 4, 1, one(height as u32)),
        (279, 4, 1, one(end - pixels as u32)),
        // Of three colours none is transparency: an entry that says so of none is not allowed, one of the same tag is.
        if extra == 1 { (338, 3, 1, small(2)) } else { (284, 3, 1, small(1)) },
        (339, 3, count, each(format, 1)),
    ];
    let mut file = if is_little { b"II".to_vec() } else { b"MM".to_vec() };
    file.extend(short(42));
    file.extend(long(HEAD_BYTES as u32));
    file.extend(short(ENTRIES as u16));
    for (tag, kind, count, value) in entries {
        file.extend([short(tag), short(kind)].concat());
        file.extend(long(count));
        file.extend(value);
    }
    file.extend(long(0));
    if colours > 1 {
        file.extend(short(bits).repeat(colours));
        file.extend(short(format).repeat(colours));
    }
    file.extend(bytes);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tiff_has_no_word_for_is_refused() {
        for name in ["|S3", "bfloat16", "<M8[ns]"] {
            assert!(file(&name.parse().unwrap(), [1, 1], 1, &[0; 8]).unwrap_err().contains("TIFF has no"), "{name}");
        }
        let grey = file(&"<u2".parse().unwrap(), [1, 2], 1, &[1, 2, 3, 4]).unwrap();
        assert!(grey.starts_with(b"II\x2a\0\x08\0\0\0") && grey.ends_with(&[0, 0, 0, 0, 1, 2, 3, 4]));
        assert!(file(&">u2".parse().unwrap(), [1, 1], 3, &[0; 6]).unwrap().starts_with(b"MM\0\x2a\0\0\0\x08"));
    }
}
