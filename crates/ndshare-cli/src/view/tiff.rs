//! A picture as a TIFF file: one strip, uncompressed, as every reader takes it.

use ndshare::Element;
use ndshare::element::{Kind, Order};

/// Magic, and where the first directory is.
const HEAD_BYTES: usize = 8;
const ENTRIES: usize = 11;

/// Numbers in the byte order of a file.
#[derive(Debug, Clone, Copy)]
struct Words(Order);

impl Words {
    fn short(self, value: u16) -> [u8; 2] {
        if self.0 == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    fn long(self, value: usize) -> [u8; 4] {
        // The length of the file was looked at before.
        let value = value as u32;
        if self.0 == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    /// A short in the place of a long.
    fn wide(self, value: u16) -> [u8; 4] {
        let [a, b] = self.short(value);
        [a, b, 0, 0]
    }
}

/// What a file says of its items: a number for each kind.
fn format(element: &Element) -> Option<(u16, Order)> {
    let &Element::Number(number, order) = element else { return None };
    let has_code = element.to_string().starts_with(['<', '>', '|']);
    let format = match number.kind() {
        Kind::Bool | Kind::Unsigned => 1,
        Kind::Signed => 2,
        Kind::Float if element.size() <= 8 => 3,
        Kind::Complex if element.size() <= 16 => 6,
        _ => return None,
    };
    has_code.then_some((format, order))
}

/// A file of so many rows and columns of pixels, each of `colours` items, which lie row by row in `bytes`.
pub(super) fn file(element: &Element, size: [usize; 2], colours: usize, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (format, order) =
        format(element).ok_or_else(|| format!("TIFF has no items of {element}: save the frame as NPY"))?;
    let words = Words(order);
    let lists = HEAD_BYTES + 2 + ENTRIES * 12 + 4;
    let pixels = lists + if colours > 1 { colours * 4 } else { 0 };
    if u32::try_from(pixels + bytes.len()).is_err() {
        return Err("TIFF ends at 4 GiB: save the frame as NPY".to_owned());
    }
    let bits = (element.size() * 8) as u16;
    let mut file = if order == Order::Little { b"II".to_vec() } else { b"MM".to_vec() };
    file.extend(words.short(42));
    file.extend(words.long(HEAD_BYTES));
    file.extend(words.short(ENTRIES as u16));
    // One short stands in its entry, several behind all entries.
    let each = |value, place: usize| {
        if colours == 1 { words.wide(value) } else { words.long(lists + place * colours * 2) }
    };
    for (tag, kind, count, value) in
        entries(words, size, colours, (pixels, bytes.len()), each(bits, 0), each(format, 1))
    {
        file.extend([words.short(tag), words.short(kind)].concat());
        file.extend(words.long(count));
        file.extend(value);
    }
    file.extend(words.long(0));
    if colours > 1 {
        file.extend(words.short(bits).repeat(colours));
        file.extend(words.short(format).repeat(colours));
    }
    file.extend(bytes);
    Ok(file)
}

type Entry = (u16, u16, usize, [u8; 4]);

/// The directory, by tag; `strip` is where the pixels are, and their bytes.
fn entries(
    words: Words,
    [height, width]: [usize; 2],
    colours: usize,
    strip: (usize, usize),
    bits: [u8; 4],
    format: [u8; 4],
) -> [Entry; ENTRIES] {
    // A fourth colour is transparency; a file without one says instead that colours lie beside each other, which it may.
    let fourth = if colours == 4 { (338, 3, 1, words.wide(2)) } else { (284, 3, 1, words.wide(1)) };
    [
        (256, 4, 1, words.long(width)),
        (257, 4, 1, words.long(height)),
        (258, 3, colours, bits),
        (259, 3, 1, words.wide(1)),
        (262, 3, 1, words.wide(if colours == 1 { 1 } else { 2 })),
        (273, 4, 1, words.long(strip.0)),
        (277, 3, 1, words.wide(colours as u16)),
        (278, 4, 1, words.long(height)),
        (279, 4, 1, words.long(strip.1)),
        fourth,
        (339, 3, colours, format),
    ]
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
