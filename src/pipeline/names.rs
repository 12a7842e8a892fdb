//! Names to indices, and what is said when a name is not there.

use std::cell::Cell;
use std::collections::HashMap;

use crate::diag::{Code, Diagnostic, Diagnostics, codes, did_you_mean};
use crate::spec::{Spanned, Spec};

/// Looking for a near name is linear in the names: a file in which everything is misspelt must not make it quadratic.
const SUGGESTIONS: u32 = 100;

/// The names of all stages, or of all edges.
pub(super) struct Names<'a> {
    what: &'static str,
    code: Code,
    list: Vec<&'a str>,
    ids: HashMap<&'a str, u32>,
    suggestions_left: Cell<u32>,
}

impl<'a> Names<'a> {
    pub fn of_stages(spec: &'a Spec) -> Self {
        Self::new("stage", codes::UNKNOWN_STAGE, spec.stages.iter().map(|s| s.name.value.as_str()))
    }

    pub fn of_edges(spec: &'a Spec) -> Self {
        Self::new("edge", codes::UNKNOWN_EDGE, spec.edges.iter().map(|e| e.name.value.as_str()))
    }

    fn new(what: &'static str, code: Code, names: impl Iterator<Item = &'a str>) -> Self {
        let list: Vec<_> = names.collect();
        let mut ids = HashMap::with_capacity(list.len());
        for (id, &name) in list.iter().enumerate() {
            ids.entry(name).or_insert(id as u32);
        }
        Self { what, code, list, ids, suggestions_left: Cell::new(SUGGESTIONS) }
    }

    pub fn get(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }

    /// The index of this name; otherwise says that there is none. `place` tells what the name is there for.
    pub fn resolve(&self, name: &Spanned<String>, place: &str, found: &mut Diagnostics) -> Option<u32> {
        let id = self.get(&name.value);
        if id.is_none() {
            let what = self.what;
            let d = Diagnostic::error(self.code, format!("there is no {what} `{}`", name.value)).at(&name.span, place);
            found.push(match self.near(&name.value) {
                Some(near) => d.help(format!("did you mean `{near}`?")),
                None if self.list.is_empty() => d.help(format!("the file has no {what}s: declare it under `{what}s:`")),
                None => d.help(format!("declare it under `{what}s:`, or use the name of a {what} that is there")),
            });
        }
        id
    }

    /// The name that was probably meant.
    pub fn near(&self, word: &str) -> Option<&'a str> {
        let left = self.suggestions_left.get();
        self.suggestions_left.set(left.saturating_sub(1));
        if left == 0 { None } else { did_you_mean(word, self.list.iter().copied()) }
    }
}
