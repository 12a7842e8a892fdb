//! Every dependency's licence and source against deny.toml, with cargo alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cargo;
use crate::step::Result;

/// The program's packages, and those of the bindings, which are a workspace of their own.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "sdk/Cargo.toml"];

pub fn check() -> Result {
    let text = std::fs::read_to_string("deny.toml").map_err(|e| format!("deny.toml: {e}"))?;
    let rules: toml::Table = text.parse().map_err(|e| format!("deny.toml: {e}"))?;
    let allowed = Allowed::read(&rules)?;
    // The same package is met on several targets.
    let mut wrong = BTreeMap::new();
    for manifest in MANIFESTS {
        for target in strings(&rules, "graph", "targets")? {
            let metadata = cargo("metadata --format-version 1 --locked --manifest-path").arg(manifest);
            let metadata = metadata.arg("--filter-platform").arg(&target).stdout()?;
            let metadata: Value = serde_json::from_slice(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
            for package in metadata["packages"].as_array().ok_or("cargo metadata has no packages")? {
                if let Err(why) = check_package(package, &allowed) {
                    wrong.insert(package["id"].to_string(), why);
                }
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.into_values().collect::<Vec<_>>().join("\n")),
    }
}

/// The licences that may be, and those that single packages may have besides.
struct Allowed {
    everywhere: Vec<String>,
    of: BTreeMap<String, BTreeSet<String>>,
}

impl Allowed {
    fn read(rules: &toml::Table) -> Result<Self> {
        let mut of = BTreeMap::new();
        for exception in rules["licenses"].get("exceptions").and_then(|e| e.as_array()).into_iter().flatten() {
            let (name, more) = (exception.get("crate"), exception.get("allow").and_then(|a| a.as_array()));
            let name = name.and_then(|n| n.as_str()).ok_or("deny.toml: an exception names no `crate`")?;
            let more = more.ok_or("deny.toml: an exception has no list `allow`")?;
            of.insert(name.to_owned(), more.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect());
        }
        Ok(Self { everywhere: strings(rules, "licenses", "allow")?, of })
    }

    fn to(&self, package: &str) -> Vec<String> {
        let more = self.of.get(package).into_iter().flatten();
        self.everywhere.iter().chain(more).cloned().collect()
    }
}

fn strings(rules: &toml::Table, section: &str, key: &str) -> Result<Vec<String>> {
    let list = rules.get(section).and_then(|s| s.get(key)).and_then(|v| v.as_array());
    let list = list.ok_or_else(|| format!("deny.toml: no list `{key}` in [{section}]"))?;
    Ok(list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
}

fn check_package(package: &Value, allowed: &Allowed) -> Result {
    let name = format!("{} {}", package["name"], package["version"]).replace('"', "");
    if let Some(source) = package["source"].as_str()
        && !source.starts_with("registry+")
    {
        return Err(format!("{name}: comes from {source}, which is no registry"));
    }
    let licence = package["license"].as_str().ok_or_else(|| format!("{name}: names no licence"))?;
    match satisfies(licence, &allowed.to(package["name"].as_str().unwrap_or_default())) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{name}: the licence {licence} is not allowed by deny.toml")),
        Err(why) => Err(format!("{name}: the licence {licence} cannot be read: {why}")),
    }
}

/// Whether an SPDX expression can be met with allowed licences alone. `/` is how `OR` used to be written.
fn satisfies(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    let met = any_of(&mut words, allowed)?;
    match words.first() {
        None => Ok(met),
        Some(word) => Err(format!("`{word}` is not expected")),
    }
}

fn any_of(words: &mut &[&str], allowed: &[String]) -> Result<bool> {
    let mut met = all_of(words, allowed)?;
    while take(words, "OR") {
        met |= all_of(words, allowed)?;
    }
    Ok(met)
}

fn all_of(words: &mut &[&str], allowed: &[String]) -> Result<bool> {
    let mut met = one(words, allowed)?;
    while take(words, "AND") {
        met &= one(words, allowed)?;
    }
    Ok(met)
}

fn one(words: &mut &[&str], allowed: &[String]) -> Result<bool> {
    if take(words, "(") {
        let met = any_of(words, allowed)?;
        return if take(words, ")") { Ok(met) } else { Err("a bracket is not closed".into()) };
    }
    let (name, rest) = words.split_first().ok_or("it ends too early")?;
    let mut name = name.to_string();
    *words = rest;
    if take(words, "WITH") {
        let (exception, rest) = words.split_first().ok_or("it ends too early")?;
        name = format!("{name} WITH {exception}");
        *words = rest;
    }
    Ok(allowed.contains(&name))
}

fn take(words: &mut &[&str], word: &str) -> bool {
    let is_next = words.first() == Some(&word);
    if is_next {
        *words = &words[1..];
    }
    is_next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        let allowed: Vec<String> = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(String::from).into();
        for (text, met) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("Unlicense/MIT", true),
            ("Apache-2.0 OR MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND OpenSSL", false),
            ("GPL-2.0-only OR MIT AND OpenSSL", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
        ] {
            assert_eq!(satisfies(text, &allowed), Ok(met), "{text}");
        }
        for text in ["", "(MIT", "MIT MIT", "MIT OR"] {
            assert!(satisfies(text, &allowed).is_err(), "{text}");
        }
    }
}
