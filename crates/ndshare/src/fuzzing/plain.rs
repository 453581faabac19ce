//! Texts and descriptions: what parses is printed, and that parses as the same.

use crate::arena::Locator;
use crate::cache::{Key, KeyValue};
use crate::element::Element;
use crate::names::{Entry, Letter};
use crate::overlay::Uses;
use crate::ring::Format;
use crate::session::parse_entry;

/// A dtype as text: its parts lie inside, and its own text is the same dtype.
pub fn element(data: &[u8]) -> bool {
    let Some(element) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<Element>().ok()) else {
        return false;
    };
    // A text may be longer than a whole description; what is printed is parsed again however long it is.
    assert_eq!(element.to_string().parse::<Element>().ok().as_ref(), Some(&element));
    assert!(element.align() >= 1 && (element.align() <= element.size() || element.size() == 0), "{element}");
    if let Element::Structure(structure) = &element {
        for field in structure.fields() {
            assert!(field.offset.checked_add(field.size()).is_some_and(|end| end <= structure.size()), "{element}");
            assert_eq!(structure.field(&field.name), Some(field));
        }
    }
    let _ = (element.name(), element.kind(), element.number(), element.is_solid());
    true
}

/// The bytes of a key of a cache: what they are made of has one form, which is made of the same.
pub fn key(data: &[u8]) -> bool {
    let Ok(value) = KeyValue::decode(data) else { return false };
    let _ = value.to_string();
    let Ok(key) = Key::of(&value) else { return false };
    let again = key.value().expect("what is written is read");
    assert_eq!(Key::of(&again).expect("and written again").bytes(), key.bytes());
    assert!(again == value, "{again:?} {value:?}");
    true
}

/// The format of a ring's frames.
pub fn ring_format(data: &[u8]) -> bool {
    let Ok(format) = Format::decode(data) else { return false };
    let bytes = format.encode().expect("what was read is written");
    let again = Format::decode(&bytes).expect("and read again");
    assert_eq!(again.encode().as_ref(), Ok(&bytes));
    let told = format.description().and_then(|told| Some((told.layout.items()?, told.element?.size())));
    // More items than can be counted have no bytes; no array is made of them.
    if let Some((items, size)) = told {
        let len_bytes = items.checked_mul(size).expect("a frame whose bytes can be counted");
        assert_eq!(format.frame_bytes().ok(), Some(len_bytes.max(1) as u64), "{format:?}");
    }
    true
}

/// The uses of an overlay: no field lies beyond the memory that they ask for.
pub fn uses(data: &[u8]) -> bool {
    let Some(uses) = Uses::decode(data) else { return false };
    assert_eq!(Uses::decode(&uses.encode()).as_ref(), Some(&uses));
    for field in uses.all().iter().flat_map(|one| one.fields()) {
        let (layout, element) = (&field.description().layout, field.description().element.as_ref());
        let size = element.expect("a field has a type").size();
        layout.check_inside(field.offset() as u64, size, uses.len_bytes()).expect("a field lies inside");
    }
    let _ = uses.to_string();
    true
}

/// What a user says who offers an object to another one.
pub fn letter(data: &[u8]) -> bool {
    let Ok(letter) = Letter::decode(data) else { return false };
    assert_eq!(Letter::decode(&letter.encode()).as_ref(), Ok(&letter));
    true
}

/// Where an arena is: a locator, and the entries of sessions and names in the user's registry.
pub fn locator(data: &[u8]) -> bool {
    let mut is_whole = false;
    if let Some(locator) = std::str::from_utf8(data).ok().and_then(|text| text.parse::<Locator>().ok()) {
        assert_eq!(locator.to_string().parse::<Locator>().as_ref(), Ok(&locator));
        is_whole = true;
    }
    if let Some((locator, numbering)) = parse_entry(data) {
        assert_eq!(parse_entry(format!("{locator} {numbering}\n").as_bytes()), Some((locator, numbering)));
        is_whole = true;
    }
    if let Some(entry) = Entry::parse(data) {
        assert_eq!(Entry::parse(entry.to_string().as_bytes()).as_ref(), Some(&entry));
        is_whole = true;
    }
    is_whole
}
