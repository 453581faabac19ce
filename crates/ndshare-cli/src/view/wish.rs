//! What a page asks for: JSON in text messages. What is wrong in one is an error that names the field.

use serde_json::Value;

use super::plane::Part;

/// The most pixels of a window along an axis.
pub(super) const MOST_PIXELS: usize = 8192;
/// The most axes of a frame.
const MOST_AXES: usize = 64;
/// The most points of a line of which the profile is wanted.
const MOST_FAR: f64 = 1e9;

/// A message of a page; all but the first are of one source.
#[derive(Debug, PartialEq)]
pub(super) enum Ask {
    /// A picture came, and the next one may.
    Next,
    /// How it is looked at from now on.
    Wish(Box<Wish>),
    /// The frames stand still, or go on.
    Pause(bool),
    /// So many frames on, or back.
    Step(i64),
    /// What is seen, as a file.
    Save(Format),
}

/// As what a frame is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Npy,
    Tiff,
    /// In full, for the page, which makes a PNG of it.
    Picture,
}

/// How a source is looked at. Numbers are in pixels of the frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wish {
    /// Rows and columns of the window.
    pub(super) window: [usize; 2],
    /// Left, top, right and bottom of what is seen; none for all.
    pub(super) region: Option<[usize; 4]>,
    /// Which array of a frame of several; none for the one that looks like a picture.
    pub(super) field: Option<String>,
    /// The place along each axis of a stack.
    pub(super) lead: Vec<usize>,
    pub(super) part: Part,
    /// Whether a last axis of 3 or 4 is of colours.
    pub(super) has_colours: bool,
    /// From which number on a pixel is saturated.
    pub(super) limit: Option<f64>,
    /// The pixel whose value is told.
    pub(super) cursor: Option<[usize; 2]>,
    /// From where to where the profile goes: x, y, x, y.
    pub(super) line: Option<[f64; 4]>,
    /// Left, top, right and bottom of the rectangle that is measured.
    pub(super) rectangle: Option<[usize; 4]>,
    /// Whether the values of the pixels are told, if they are few.
    pub(super) has_values: bool,
    /// Rows and columns of the window for the spectrum.
    pub(super) spectrum: Option<[usize; 2]>,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            window: [512, 512],
            region: None,
            field: None,
            lead: Vec::new(),
            part: Part::Magnitude,
            has_colours: true,
            limit: None,
            cursor: None,
            line: None,
            rectangle: None,
            has_values: false,
            spectrum: None,
        }
    }
}

/// The source and what is asked for of it.
pub(super) fn parse(text: &str) -> Result<(usize, Ask), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("expected JSON, got {error}"))?;
    let kind = value["type"].as_str().ok_or("expected a text `type`, got none")?;
    let source = number(&value, "source")?.unwrap_or(0);
    let ask = match kind {
        "next" => Ask::Next,
        "wish" => Ask::Wish(Box::new(wish(&value)?)),
        "pause" => Ask::Pause(true),
        "play" => Ask::Pause(false),
        "step" => Ask::Step(value["by"].as_i64().ok_or("expected a whole number `by`, got none")?),
        "save" => Ask::Save(format(&value)?),
        other => return Err(format!("expected next, wish, pause, play, step or save for `type`, got {other:?}")),
    };
    Ok((source, ask))
}

fn wish(value: &Value) -> Result<Wish, String> {
    let pixels =
        |name| numbers::<2>(value, name).map(|window| window.map(|size| size.map(|n| n.clamp(1, MOST_PIXELS))));
    let part = value["part"].as_str().map_or(Ok(Part::Magnitude), |name| {
        Part::named(name)
            .ok_or_else(|| format!("expected magnitude, phase, real or imaginary for `part`, got {name:?}"))
    });
    let lead = value["lead"].as_array().map_or(&[][..], Vec::as_slice);
    if lead.len() > MOST_AXES {
        return Err(format!("expected at most {MOST_AXES} numbers for `lead`, got {}", lead.len()));
    }
    let wrong = || "expected whole numbers for `lead`".to_owned();
    Ok(Wish {
        window: pixels("window")?.ok_or("expected rows and columns for `window`, got none")?,
        region: numbers(value, "region")?,
        field: value["field"].as_str().map(str::to_owned),
        lead: lead.iter().map(|at| at.as_u64().map(|at| at as usize)).collect::<Option<_>>().ok_or_else(wrong)?,
        part: part?,
        has_colours: value["colours"].as_bool().unwrap_or(true),
        limit: value["limit"].as_f64(),
        cursor: numbers(value, "cursor")?,
        line: points(value)?,
        rectangle: numbers(value, "rectangle")?,
        has_values: value["values"].as_bool().unwrap_or(false),
        spectrum: pixels("spectrum")?,
    })
}

fn format(value: &Value) -> Result<Format, String> {
    match value["format"].as_str() {
        Some("npy") => Ok(Format::Npy),
        Some("tiff") => Ok(Format::Tiff),
        Some("picture") => Ok(Format::Picture),
        other => Err(format!("expected npy, tiff or picture for `format`, got {other:?}")),
    }
}

fn number(value: &Value, name: &str) -> Result<Option<usize>, String> {
    match &value[name] {
        Value::Null => Ok(None),
        other => whole(other).map(Some).ok_or_else(|| format!("expected a whole number for `{name}`, got {other}")),
    }
}

/// A number that is not negative; a page may send 3.0 for 3.
fn whole(value: &Value) -> Option<usize> {
    let whole = |number: f64| (number.fract() == 0.0 && (0.0..=MOST_FAR).contains(&number)).then_some(number as usize);
    value.as_f64().and_then(whole)
}

fn numbers<const N: usize>(value: &Value, name: &str) -> Result<Option<[usize; N]>, String> {
    if value[name].is_null() {
        return Ok(None);
    }
    let numbers = value[name].as_array().and_then(|items| items.iter().map(whole).collect::<Option<Vec<_>>>());
    let wrong = || format!("expected {N} whole numbers for `{name}`, got {}", value[name]);
    numbers.and_then(|numbers| numbers.try_into().ok()).map(Some).ok_or_else(wrong)
}

fn points(value: &Value) -> Result<Option<[f64; 4]>, String> {
    if value["line"].is_null() {
        return Ok(None);
    }
    let near = |number: &Value| number.as_f64().filter(|number| number.abs() <= MOST_FAR);
    let items = value["line"].as_array().and_then(|items| items.iter().map(near).collect::<Option<Vec<_>>>());
    let wrong = || format!("expected 4 numbers for `line`, got {}", value["line"]);
    items.and_then(|items| items.try_into().ok()).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_page_are_read() {
        assert_eq!(parse(r#"{"type": "next"}"#), Ok((0, Ask::Next)));
        assert_eq!(parse(r#"{"type": "step", "source": 2, "by": -1}"#), Ok((2, Ask::Step(-1))));
        assert_eq!(parse(r#"{"type": "save", "format": "tiff"}"#), Ok((0, Ask::Save(Format::Tiff))));
        let all = r#"{"type": "wish", "source": 1, "window": [3.0, 99999], "region": [1, 2, 3, 4], "lead": [5],
            "part": "phase", "field": "left.depth", "colours": false, "limit": 4095, "cursor": [6, 7], "line": [0, 0.5, 1, 2], "rectangle": [1, 1, 2, 2],
            "values": true, "spectrum": [0, 10]}"#;
        let wish = Wish {
            window: [3, MOST_PIXELS],
            region: Some([1, 2, 3, 4]),
            field: Some("left.depth".to_owned()),
            lead: vec![5],
            part: Part::Phase,
            has_colours: false,
            limit: Some(4095.0),
            cursor: Some([6, 7]),
            line: Some([0.0, 0.5, 1.0, 2.0]),
            rectangle: Some([1, 1, 2, 2]),
            has_values: true,
            spectrum: Some([1, 10]),
        };
        assert_eq!(parse(all), Ok((1, Ask::Wish(Box::new(wish)))));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("", "JSON"),
            ("[]", "type"),
            (r#"{"type": "fly"}"#, "fly"),
            (r#"{"type": "wish"}"#, "window"),
            (r#"{"type": "wish", "window": [1]}"#, "window"),
            (r#"{"type": "wish", "window": [1, -1]}"#, "window"),
            (r#"{"type": "wish", "window": [1, 1e300]}"#, "window"),
            (r#"{"type": "wish", "window": [1, 1], "line": [0, 1, 2, 1e300]}"#, "line"),
            (r#"{"type": "wish", "window": [1, 1], "lead": ["x"]}"#, "lead"),
            (r#"{"type": "wish", "window": [1, 1], "part": "north"}"#, "part"),
            (r#"{"type": "next", "source": -1}"#, "source"),
            (r#"{"type": "step"}"#, "by"),
            (r#"{"type": "save", "format": "doc"}"#, "format"),
        ] {
            assert!(parse(text).unwrap_err().contains(named), "{text}");
        }
        let many = format!(r#"{{"type": "wish", "window": [1, 1], "lead": {:?}}}"#, [0; MOST_AXES + 1]);
        assert!(parse(&many).unwrap_err().contains("at most 64"));
    }
}
