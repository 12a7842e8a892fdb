//! A simple but honest scan of Rust sources: tokens without comments, strings and test code; the paths
//! and macros that they name. And of markdown: the files and codes that it names.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub line: usize,
    /// An identifier, `::`, or one other character.
    pub text: String,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }

    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

#[derive(Debug)]
pub struct Source {
    /// Relative to the root of the repository.
    pub path: PathBuf,
    pub text: String,
    /// Without what is compiled for tests only.
    pub tokens: Vec<Token>,
    /// Modules that are declared for tests only, as paths without `.rs`.
    test_modules: Vec<PathBuf>,
}

impl Source {
    pub fn read(root: &Path, path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self::of(path.strip_prefix(root).unwrap(), &text)
    }

    pub fn of(path: impl AsRef<Path>, text: &str) -> Self {
        let path = path.as_ref().to_owned();
        let home = if is_folder_module(&path) { path.parent().unwrap().to_owned() } else { path.with_extension("") };
        let (tokens, test_modules) = without_tests(tokens(text));
        let test_modules = test_modules.into_iter().map(|name| home.join(name)).collect();
        Self { path, text: text.to_owned(), tokens, test_modules }
    }

    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub fn test_modules(&self) -> Vec<PathBuf> {
        self.test_modules.clone()
    }

    /// `src/spec/units.rs` is `[spec, units]`; `src/lib.rs` is `[]`.
    pub fn module_path(&self) -> Vec<String> {
        let mut parts: Vec<String> = self.path.with_extension("").iter().map(|p| p.to_str().unwrap().into()).collect();
        if is_folder_module(&self.path) {
            parts.pop();
        }
        parts.remove(0);
        parts
    }

    /// Every path of at least two names, with the groups of `use` written out.
    pub fn paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = vec![];
        let mut at = 0;
        while at < self.tokens.len() {
            match self.tokens[at].is_word() {
                true => at = read_path(&self.tokens, at, &[], &mut found),
                false => at += 1,
            }
        }
        found.retain(|(_, path)| path.len() > 1);
        found
    }

    /// The names before a `!` and a bracket: `println!(`.
    pub fn macros(&self) -> Vec<(usize, String)> {
        let is_call = |w: &&[Token]| w[0].is_word() && w[1].is("!") && ["(", "[", "{"].iter().any(|b| w[2].is(b));
        self.tokens.windows(3).filter(is_call).map(|w| (w[0].line, w[0].text.clone())).collect()
    }
}

fn is_folder_module(path: &Path) -> bool {
    ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| path.ends_with(name))
}

/// Reads `a::b::{c, d::e}` from `at`; gives where it ends.
fn read_path(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let line = tokens[at].line;
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(t) if t.is_word() || t.is("*") => path.push(t.text.clone()),
            Some(t) if t.is("{") => return read_group(tokens, at + 1, &path, found),
            _ => break,
        }
        at += 1;
        match tokens.get(at) {
            Some(t) if t.is("::") => at += 1,
            _ => break,
        }
    }
    found.push((line, path));
    at
}

fn read_group(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
    while let Some(token) = tokens.get(at) {
        if token.is("}") {
            return at + 1;
        }
        at = match token.is_word() || token.is("*") {
            true => read_path(tokens, at, prefix, found),
            false => at + 1,
        };
        // `x as y`: the new name is no path.
        if tokens.get(at).is_some_and(|t| t.is("as")) {
            at += 2;
        }
    }
    at
}

/// The module of this crate that a path leads to, seen from `home`.
pub fn crate_module(path: &[String], home: &[String]) -> Option<String> {
    let supers = path.iter().take_while(|p| *p == "super").count();
    match path.first().map(String::as_str) {
        Some("crate") => path.get(1).cloned(),
        Some("super") if supers >= home.len() => path.get(supers).cloned(),
        _ => None,
    }
}

/// Cuts out every item behind `#[cfg(test)]`; gives the names of modules that were declared so in other files.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules, mut at) = (vec![], vec![], 0);
    while at < tokens.len() {
        let rest = &tokens[at..];
        if !(rest.len() > MARK.len() && rest.iter().zip(MARK).all(|(t, m)| t.is(m))) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let item = &rest[MARK.len()..];
        let end = item_end(item);
        if let Some(name) = item[..end].iter().position(|t| t.is("mod")).and_then(|m| item[..end].get(m + 1..m + 3))
            && name[1].is(";")
        {
            modules.push(name[0].text.clone());
        }
        at += MARK.len() + end;
    }
    (kept, modules)
}

/// An item ends at a `;` outside all brackets or with the `}` of its body.
fn item_end(tokens: &[Token]) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut at, mut line) = (vec![], 0, 1);
    while at < chars.len() {
        let start = at;
        let next = chars.get(at + 1).copied();
        match chars[at] {
            '/' if next == Some('/') => at += chars[at..].iter().take_while(|c| **c != '\n').count(),
            '/' if next == Some('*') => at = block_comment_end(&chars, at),
            '"' => at = string_end(&chars, at),
            'b' | 'c' if next == Some('"') => at = string_end(&chars, at + 1),
            'r' | 'b' | 'c' if raw_string_hashes(&chars, at).is_some() => at = raw_string_end(&chars, at),
            '\'' => at = quote_end(&chars, at),
            c if c.is_alphanumeric() || c == '_' => {
                at += chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
                found.push(Token { line, text: chars[start..at].iter().collect() });
            }
            ':' if next == Some(':') => {
                at += 2;
                found.push(Token { line, text: "::".into() });
            }
            c => {
                at += 1;
                if !c.is_whitespace() {
                    found.push(Token { line, text: c.into() });
                }
            }
        }
        line += chars[start..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// How many `#` a raw string that begins at `at` has: `r"`, `br##"`.
fn raw_string_hashes(chars: &[char], at: usize) -> Option<usize> {
    let r = at + usize::from(matches!(chars[at], 'b' | 'c'));
    let hashes = chars.get(r + 1..)?.iter().take_while(|c| **c == '#').count();
    (chars.get(r) == Some(&'r') && chars.get(r + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = raw_string_hashes(chars, at).unwrap();
    let open = at + chars[at..].iter().position(|c| *c == '"').unwrap();
    let is_end = |q: &usize| chars[*q] == '"' && (1..=hashes).all(|h| chars.get(q + h) == Some(&'#'));
    (open + 1..chars.len()).find(is_end).map_or(chars.len(), |q| q + 1 + hashes)
}

/// A character literal is skipped whole; of a lifetime only the quote is.
fn quote_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => (at + 3..chars.len()).find(|q| chars[*q] == '\'').map_or(chars.len(), |q| q + 1),
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// Codes that a text names: `NF0203`.
pub fn codes_named(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("NF").filter_map(|(at, _)| text.get(at..at + 6)).filter(|code| {
        code.bytes().skip(2).all(|b| b.is_ascii_digit()) // NF and four digits
    })
}

/// Targets of markdown links that are files of this repository.
pub fn links(text: &str) -> Vec<String> {
    text.match_indices("](")
        .filter_map(|(at, _)| text[at + 2..].split_once(')').map(|(target, _)| target))
        .map(|target| target.split('#').next().unwrap())
        .filter(|target| !target.is_empty() && !target.contains(':') && !target.contains(char::is_whitespace))
        .map(str::to_owned)
        .collect()
}

/// Files named in backticks: those with a folder of this repository in front.
pub fn files_named(text: &str) -> Vec<String> {
    const FOLDERS: &[&str] = &[
        "src/",
        "crates/",
        "sdk/",
        "docs/",
        "pipelines/",
        "examples/",
        "schemas/",
        "tests/",
        "xtask/",
        "benches/",
        ".ci/",
    ];
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| FOLDERS.iter().any(|f| word.starts_with(f)) && word.chars().all(plain))
        .map(str::to_owned)
        .collect()
}
