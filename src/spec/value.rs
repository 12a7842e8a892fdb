//! What the checker makes of a tree: values of the types that the format wants, each with its place.

use std::time::Duration;

use super::format::Record;
use super::types::{Spanned, Text};
use crate::diag::Span;

#[derive(Debug, Clone)]
pub struct Val {
    pub span: Span,
    pub data: Data,
}

#[derive(Debug, Clone)]
pub enum Data {
    /// Wrong (and told so), or a var that has no value yet.
    Unknown,
    Bool(bool),
    Int(i64),
    /// Numbers and rates.
    Number(f64),
    Str(String),
    /// A word of an enumeration, as the format spells it.
    Word(&'static str),
    Bytes(u64),
    Time(Duration),
    Ids(Vec<u32>),
    Text(Text),
    List(Vec<Val>),
    Map(Vec<(Spanned<String>, Val)>),
    Record(Fields),
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: &'static str,
    pub key_span: Span,
    pub value: Val,
}

/// The keys of one record that the file gives.
#[derive(Debug, Clone)]
pub struct Fields {
    pub record: &'static Record,
    /// Where the record stands: its key if it has one.
    pub owner: Span,
    pub list: Vec<Field>,
    /// Keys that were most likely meant by ones that the format does not have: they are not missing as well.
    pub meant: Vec<&'static str>,
}

impl Fields {
    pub fn find(&self, name: &str) -> Option<&Field> {
        self.list.iter().find(|f| f.name == name)
    }

    pub fn take(&mut self, name: &str) -> Option<Val> {
        debug_assert!(self.record.key(name).is_some(), "{name} is no key of {}", self.record.name);
        let at = self.list.iter().position(|f| f.name == name)?;
        Some(self.list.swap_remove(at).value)
    }

    /// Puts `defaults` under these fields, deeply.
    pub fn merge(&mut self, defaults: &Fields) {
        for default in &defaults.list {
            let displaced = self.record.rivals_of(default.name).any(|rival| self.find(rival).is_some());
            match self.list.iter_mut().find(|f| f.name == default.name) {
                Some(own) => own.value.merge(&default.value),
                None if displaced => {}
                None => self.list.push(default.clone()),
            }
        }
    }
}

impl Val {
    fn merge(&mut self, default: &Val) {
        match (&mut self.data, &default.data) {
            (Data::Record(own), Data::Record(default)) => own.merge(default),
            (Data::Map(own), Data::Map(default)) => {
                for (key, value) in default {
                    match own.iter_mut().find(|(k, _)| k.value == key.value) {
                        Some((_, own)) => own.merge(value),
                        None => own.push((key.clone(), value.clone())),
                    }
                }
            }
            _ => {}
        }
    }

    /// How many values there are directly below this one.
    pub fn count(&self) -> usize {
        match &self.data {
            Data::List(list) => list.len(),
            Data::Map(map) => map.len(),
            Data::Record(fields) => fields.list.len(),
            _ => 0,
        }
    }

    /// How many values this is, with all below it.
    pub fn size(&self) -> usize {
        1 + match &self.data {
            Data::List(list) => list.iter().map(Val::size).sum(),
            Data::Map(map) => map.iter().map(|(_, v)| v.size()).sum(),
            Data::Record(fields) => fields.list.iter().map(|f| f.value.size()).sum::<usize>(),
            _ => 0,
        }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self.data, Data::Unknown)
    }

    fn spanned<T>(&self, value: Option<T>) -> Option<Spanned<T>> {
        value.map(|value| Spanned { value, span: self.span.clone() })
    }

    pub fn bool(self) -> Option<Spanned<bool>> {
        self.spanned(if let Data::Bool(b) = self.data { Some(b) } else { None })
    }

    /// The format's range keeps integers within `T`.
    pub fn int<T: TryFrom<i64>>(self) -> Option<Spanned<T>> {
        self.spanned(if let Data::Int(i) = self.data { T::try_from(i).ok() } else { None })
    }

    pub fn number(&self) -> Option<f64> {
        if let Data::Number(n) = self.data { Some(n) } else { None }
    }

    pub fn bytes(self) -> Option<Spanned<u64>> {
        self.spanned(if let Data::Bytes(b) = self.data { Some(b) } else { None })
    }

    pub fn time(&self) -> Option<Duration> {
        if let Data::Time(t) = self.data { Some(t) } else { None }
    }

    pub fn word(&self) -> Option<&'static str> {
        if let Data::Word(w) = self.data { Some(w) } else { None }
    }

    /// A string, or a number where both are names (`user: 1000`).
    pub fn string(self) -> Option<Spanned<String>> {
        let value = match self.data {
            Data::Str(s) => s,
            Data::Int(i) => i.to_string(),
            _ => return None,
        };
        Some(Spanned { value, span: self.span })
    }

    pub fn text(self) -> Option<Spanned<Text>> {
        if let Data::Text(value) = self.data { Some(Spanned { value, span: self.span }) } else { None }
    }

    pub fn list(self) -> Vec<Val> {
        if let Data::List(list) = self.data { list } else { vec![] }
    }

    pub fn map(self) -> Vec<(Spanned<String>, Val)> {
        if let Data::Map(map) = self.data { map } else { vec![] }
    }

    pub fn record(self) -> Option<Fields> {
        if let Data::Record(fields) = self.data { Some(fields) } else { None }
    }

    /// One string or a list of them.
    pub fn strings(self) -> Vec<Spanned<String>> {
        match self.data {
            Data::List(list) => list.into_iter().filter_map(Val::string).collect(),
            _ => self.string().into_iter().collect(),
        }
    }
}
