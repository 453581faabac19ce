//! NumPy's file format, version 1.0 where it fits, else 3.0, which has longer headers and UTF-8.

use ndshare::Element;
use ndshare::element::Structure;

/// The header is filled up so that the items begin at a multiple of this.
const ALIGNMENT: usize = 64;
/// Magic and version.
const PREFIX_BYTES: usize = 8;

/// What stands before the items of an array of these lengths in C order.
pub(crate) fn header(lengths: &[usize], element: &Element) -> Vec<u8> {
    let (descr, shape) = (descr(element), shape(lengths));
    let dict = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
    let is_old = dict.is_ascii() && dict.len() + ALIGNMENT < usize::from(u16::MAX);
    let length_bytes = if is_old { 2 } else { 4 };
    let before = PREFIX_BYTES + length_bytes;
    let total = (before + dict.len() + 1).next_multiple_of(ALIGNMENT);
    let length = (total - before) as u32;
    let mut header = vec![0x93];
    header.extend(b"NUMPY");
    header.extend([if is_old { 1 } else { 3 }, 0]);
    header.extend(&length.to_le_bytes()[..length_bytes]);
    header.extend(dict.as_bytes());
    header.resize(total - 1, b' ');
    header.push(b'\n');
    header
}

/// The items' type as a Python literal. What NumPy has no code for is bytes to it, as `np.save` has it.
fn descr(element: &Element) -> String {
    let text = match element {
        Element::Structure(structure) => fields(structure),
        other => {
            Some(other.to_string()).filter(|text| text.starts_with(['<', '>', '|'])).map(|text| format!("'{text}'"))
        }
    };
    text.unwrap_or_else(|| format!("'|V{}'", element.size()))
}

/// The fields of a structure, with its holes as fields without a name; none where the format can't say it.
fn fields(structure: &Structure) -> Option<String> {
    let (mut parts, mut end) = (Vec::new(), 0);
    let hole = |bytes: usize| (bytes > 0).then(|| format!("('', '|V{bytes}')"));
    for field in structure.fields() {
        let is_plain = !field.name.contains(['\'', '\\']) && !field.name.contains(char::is_control);
        parts.extend(hole(field.offset.checked_sub(end)?));
        end = field.offset + field.size();
        let axes = if field.shape.is_empty() { String::new() } else { format!(", {}", shape(&field.shape)) };
        let part = format!("('{}', {}{axes})", field.name, descr(&field.element));
        parts.push(Some(part).filter(|_| is_plain && field.title.is_none())?);
    }
    parts.extend(hole(structure.size().checked_sub(end)?));
    Some(format!("[{}]", parts.join(", ")))
}

fn shape(shape: &[usize]) -> String {
    let lengths: String = shape.iter().map(|length| format!("{length}, ")).collect();
    format!("({})", if shape.len() == 1 { lengths.trim_end() } else { lengths.trim_end_matches(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndshare::Number;

    #[test]
    fn a_header_is_what_numpy_writes() {
        let element: Element = "[('time', '<M8[ns]'), ('gain', '<f4', (3,))]".parse().unwrap();
        assert!(descr(&element).starts_with("[('time', '<M8[ns]'"));
        assert_eq!(descr(&Element::of(Number::U16)), "'<u2'");
        assert_eq!(descr(&Element::of(Number::named("bfloat16").unwrap())), "'|V2'");
        assert_eq!([shape(&[]), shape(&[3]), shape(&[3, 4])], ["()", "(3,)", "(3, 4)"]);
    }
}
