//! Specs by hand, for tests that need many of them or odd ones.

use std::sync::Arc;
use std::time::Duration;

use crate::diag::{Source, Span};
use crate::spec::*;

pub struct Maker {
    span: Span,
}

impl Default for Maker {
    fn default() -> Self {
        Self { span: Span { source: Arc::new(Source { name: "test".into(), text: String::new() }), range: 0..0 } }
    }
}

impl Maker {
    pub fn at<T>(&self, value: T) -> Spanned<T> {
        Spanned { value, span: self.span.clone() }
    }

    pub fn text(&self, text: &str) -> Spanned<Text> {
        self.at(Text { pieces: vec![Piece::Literal(text.into())] })
    }

    pub fn spec(&self, stages: Vec<Stage>, edges: Vec<Edge>) -> Spec {
        Spec {
            span: self.span.clone(),
            name: self.at("test".into()),
            description: None,
            vars: Default::default(),
            env: Default::default(),
            env_inherit: EnvInherit::All,
            timeout: None,
            parallel: None,
            on_failure: OnFailure::Continue,
            stages,
            edges,
        }
    }

    pub fn stage(&self, name: &str, depends_on: &[(&str, Condition)]) -> Stage {
        Stage {
            name: self.at(name.into()),
            command: self.at(Command::Argv(vec![self.text("true")])),
            depends_on: depends_on
                .iter()
                .map(|&(on, condition)| Dependency { stage: self.at(on.into()), condition, span: self.span.clone() })
                .collect(),
            env: Default::default(),
            cwd: None,
            user: None,
            replicas: self.at(1),
            service: None,
            timeout: None,
            restart: None,
            stop_signal: Signal(15),
            stop_timeout: Duration::from_secs(10),
            placement: None,
            scheduling: None,
            stdin: None,
            stdout: None,
            bind: vec![],
        }
    }

    pub fn edge(&self, name: &str, from: &[&str], to: &[&str]) -> Edge {
        let names = |list: &[&str]| list.iter().map(|n| self.at(n.to_string())).collect();
        Edge {
            name: self.at(name.into()),
            from: names(from),
            to: names(to),
            kind: self.at(Kind::Ring),
            capacity: self.at(16 << 20),
            max_message: None,
            delivery: self.at(Delivery::Broadcast),
            by: self.at(By::RoundRobin),
            on_full: OnFull::Block,
            redeliver: None,
            wait: Wait::Adaptive,
            sealed: false,
            memory: Default::default(),
            rate: None,
            messages: None,
        }
    }
}
