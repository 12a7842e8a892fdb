//! The words in which the file format is written down. One table (the files beside this one) says what a
//! pipeline file may hold; the checker, the JSON Schema and `docs/pipeline.md` are all made from it.

mod edge;
mod pattern;
mod pipeline;
mod placement;
mod stage;

pub use edge::{EDGE, MAX_CAPACITY_BYTES};
pub use pattern::{NAME, Pattern};
pub use pipeline::{PIPELINE, VAR};
pub use placement::MAX_ID;
pub use stage::STAGE;

/// What a value may be.
#[derive(Debug)]
pub enum Shape {
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    /// Larger than `above`, at most `max`.
    Number {
        above: f64,
        max: f64,
    },
    /// A string; `${var}` is filled in unless `verbatim`.
    Str {
        what: &'static str,
        pattern: &'static Pattern,
        verbatim: bool,
    },
    Enum(&'static [Word]),
    /// Whole bytes.
    Size {
        min: u64,
        max: u64,
    },
    /// Bytes per second.
    Rate,
    Duration {
        zero: bool,
    },
    /// CPU numbers as cpuset(7) writes them.
    CpuList,
    /// Text for a process; numbers and booleans become their text. `${replica}`, `${self}`, `${edge.NAME}` may stand in it.
    Text,
    /// The name of a file or folder; `${replica}` and `${self}` may stand in it.
    Path,
    /// A string, number or boolean, taken as its text; nothing is filled in.
    Scalar,
    /// `version`: 1 and nothing else.
    Version,
    List {
        of: &'static Shape,
        min: usize,
        max: usize,
    },
    Map {
        /// What a key names: `stage`.
        what: &'static str,
        key: &'static Pattern,
        of: &'static Shape,
        min: usize,
        max: usize,
    },
    Record(&'static Record),
    /// Told apart by the kind of value (string, number, list, mapping).
    OneOf(&'static [&'static Shape]),
    /// In the format, but not in this release; says what is missing.
    Later(&'static str, &'static Shape),
}

/// A word of an enumeration.
#[derive(Debug)]
pub struct Word {
    pub word: &'static str,
    pub doc: &'static str,
    /// What other tools call it.
    pub also: &'static [&'static str],
    /// What this release lacks.
    pub later: Option<&'static str>,
}

/// A mapping with known keys.
#[derive(Debug)]
pub struct Record {
    /// `stage`: names the definition in the schema and the chapter in the reference.
    pub name: &'static str,
    /// A sentence or two for the reference.
    pub doc: &'static str,
    pub keys: &'static [Key],
    /// Groups of keys of which at most one is given; a stage's own choice displaces the one in `defaults`.
    pub rivals: &'static [&'static [&'static str]],
    /// Keys that begin with `x-` are the author's.
    pub open: bool,
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub shape: &'static Shape,
    pub doc: &'static str,
    pub required: bool,
    /// The value it has where nothing is said, as the file would write it.
    pub default: Option<&'static str>,
    /// The same in words, where it is not a fixed value.
    pub default_says: Option<&'static str>,
    /// As the file would write it, in YAML.
    pub example: Option<&'static str>,
    /// Said when the value is of a wrong type.
    pub hint: Option<&'static str>,
    /// What other tools call it.
    pub also: &'static [&'static str],
    /// What this release lacks.
    pub later: Option<&'static str>,
}

impl Word {
    const fn new(word: &'static str, doc: &'static str) -> Self {
        Self { word, doc, also: &[], later: None }
    }

    const fn also(mut self, names: &'static [&'static str]) -> Self {
        self.also = names;
        self
    }

    const fn later(mut self, why: &'static str) -> Self {
        self.later = Some(why);
        self
    }
}

impl Key {
    const fn new(name: &'static str, shape: &'static Shape, doc: &'static str) -> Self {
        Self {
            name,
            shape,
            doc,
            required: false,
            default: None,
            default_says: None,
            example: None,
            hint: None,
            also: &[],
            later: None,
        }
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    const fn default_says(mut self, words: &'static str) -> Self {
        self.default_says = Some(words);
        self
    }

    const fn example(mut self, yaml: &'static str) -> Self {
        self.example = Some(yaml);
        self
    }

    const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    const fn also(mut self, names: &'static [&'static str]) -> Self {
        self.also = names;
        self
    }

    const fn later(mut self, why: &'static str) -> Self {
        self.later = Some(why);
        self
    }
}

impl Record {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// The keys that exclude `name`.
    pub fn rivals_of(&self, name: &str) -> impl Iterator<Item = &'static str> {
        self.rivals
            .iter()
            .filter(move |g| g.contains(&name))
            .flat_map(|g| g.iter().copied())
            .filter(move |k| *k != name)
    }
}

impl Shape {
    /// In the words of a message: "an integer from 1 to 1024".
    pub fn says(&self) -> String {
        use super::units::show_size;
        match self {
            Shape::Bool => "true or false".into(),
            Shape::Int { min, max: i64::MAX } => format!("an integer of at least {min}"),
            Shape::Int { min, max } => format!("an integer from {min} to {max}"),
            Shape::Number { above, max } if max.is_infinite() => format!("a number above {above}"),
            Shape::Number { above, max } => format!("a number above {above} and up to {max}"),
            Shape::Str { what, .. } => (*what).into(),
            Shape::Enum(words) => {
                let now: Vec<_> = words.iter().filter(|w| w.later.is_none()).map(|w| format!("`{}`", w.word)).collect();
                either(&now)
            }
            Shape::Size { max: u64::MAX, .. } => "a size like 64MiB".into(),
            Shape::Size { min, max } => format!("a size from {} to {}", show_size(*min), show_size(*max)),
            Shape::Rate => "a rate like 400MB/s".into(),
            Shape::Duration { .. } => "a time like 90s".into(),
            Shape::CpuList => "a CPU list like \"0-3,8\"".into(),
            Shape::Text => "text".into(),
            Shape::Path => "a path".into(),
            Shape::Scalar => "a plain value (text, number or boolean)".into(),
            Shape::Version => "the number 1".into(),
            Shape::List { .. } => "a list".into(),
            Shape::Map { what, .. } => format!("a mapping with a key for each {what}"),
            Shape::Record(_) => "a mapping".into(),
            Shape::OneOf(shapes) => {
                either(&shapes.iter().filter(|s| !matches!(s, Shape::Later(..))).map(|s| s.says()).collect::<Vec<_>>())
            }
            Shape::Later(_, shape) => shape.says(),
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
fn either(words: &[String]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        words => words.concat(),
    }
}

/// Every record of the format, the outer before the inner.
pub fn records() -> Vec<&'static Record> {
    fn visit(shape: &'static Shape, list: &mut Vec<&'static Record>) {
        match shape {
            Shape::Record(record) if !list.iter().any(|r| r.name == record.name) => {
                list.push(record);
                record.keys.iter().for_each(|key| visit(key.shape, list));
            }
            Shape::List { of, .. } | Shape::Map { of, .. } | Shape::Later(_, of) => visit(of, list),
            Shape::OneOf(shapes) => shapes.iter().for_each(|s| visit(s, list)),
            _ => {}
        }
    }
    static TOP: Shape = Shape::Record(&PIPELINE);
    let mut list = vec![];
    visit(&TOP, &mut list);
    list
}
