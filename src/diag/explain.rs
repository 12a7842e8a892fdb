//! What `nexusflow explain NF0112` says: a code's story from the catalogue.

use super::{Code, codes};

pub fn explain(code: Code) -> Option<String> {
    codes::find(code).map(|e| format!("{} {}\n\n{}\n", e.code, e.name, e.story))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_number_a_name_and_a_story_of_its_own() {
        let entries: Vec<&codes::Entry> = codes::all().collect();
        for pair in entries.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} and {} are not in order", pair[0].code, pair[1].code);
        }
        let mut names: Vec<&str> = entries.iter().map(|e| e.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|p| p[0] != p[1]), "a name is used twice");
        for e in entries {
            assert!(e.name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')), "{}", e.name);
            assert!(e.story.len() >= 80 && e.story.ends_with(['.', '`', ')']), "{} needs its story told", e.code);
            assert!(explain(e.code).is_some_and(|text| text.starts_with(&e.code.to_string())));
        }
    }

    #[test]
    fn each_area_keeps_to_its_hundred() {
        for (area, entries) in codes::areas() {
            assert!(entries.iter().all(|e| e.code.0 / 100 == area), "a code of area {area} is out of range");
        }
    }
}
