//! The part of PartiQL that the adapters use: INSERT of one item, and UPDATE of one item on conditions.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.html>

use super::expression::{Comparison, Condition};
use super::value::{self, Item};
use crate::error::Error;
use serde_json::{Value, json};
use std::slice::Iter;

/// One statement, with its parameters filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Statement {
    Insert { table: String, item: Item },
    Update { table: String, set: Vec<(String, Value)>, remove: Vec<String>, conditions: Vec<Condition> },
}

impl Statement {
    pub(crate) fn table(&self) -> &str {
        match self {
            Self::Insert { table, .. } | Self::Update { table, .. } => table,
        }
    }

    pub(crate) fn parse(statement: &str, parameters: &[Value]) -> Result<Self, Error> {
        let mut parser = Parser { rest: statement, parameters: parameters.iter() };
        let parsed = if parser.takes_keyword("INSERT") { parser.insert()? } else { parser.update()? };
        if !parser.rest.trim_start().is_empty() {
            return Err(parser.unexpected());
        }
        if parser.parameters.next().is_some() {
            return Err(Error::validation("Number of parameters in request and statement don't match."));
        }
        Ok(parsed)
    }
}

struct Parser<'a> {
    rest: &'a str,
    /// The parameters that are left, in the order of their question marks.
    parameters: Iter<'a, Value>,
}

impl Parser<'_> {
    /// `INTO "table" VALUE {'name': value, …}`.
    fn insert(&mut self) -> Result<Statement, Error> {
        self.keyword("INTO")?;
        let table = self.quoted('"')?;
        self.keyword("VALUE")?;
        self.symbol("{")?;
        let mut item = Item::new();
        loop {
            let name = self.quoted('\'')?;
            self.symbol(":")?;
            let value = self.value()?;
            if item.insert(name, value).is_some() {
                return Err(Error::validation("an attribute is there twice"));
            }
            if !self.takes(",") {
                break;
            }
        }
        self.symbol("}")?;
        Ok(Statement::Insert { table, item })
    }

    /// `UPDATE "table" SET "a" = value SET … REMOVE "b" REMOVE … WHERE condition AND …`.
    fn update(&mut self) -> Result<Statement, Error> {
        self.keyword("UPDATE")?;
        let table = self.quoted('"')?;
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        loop {
            if self.takes_keyword("SET") {
                let name = self.quoted('"')?;
                self.symbol("=")?;
                set.push((name, self.value()?));
            } else if self.takes_keyword("REMOVE") {
                remove.push(self.quoted('"')?);
            } else {
                break;
            }
        }
        self.keyword("WHERE")?;
        let mut conditions = vec![self.condition()?];
        while self.takes_keyword("AND") {
            conditions.push(self.condition()?);
        }
        Ok(Statement::Update { table, set, remove, conditions })
    }

    fn condition(&mut self) -> Result<Condition, Error> {
        let name = self.quoted('"')?;
        if self.takes_keyword("IS") {
            self.keyword("MISSING")?;
            return Ok(Condition::Missing(name));
        }
        self.symbol("=")?;
        Ok(Condition::Compare(name, Comparison::Equal, self.value()?))
    }

    /// A parameter or a string.
    fn value(&mut self) -> Result<Value, Error> {
        if self.takes("?") {
            let parameter = self.parameters.next();
            let missing = || Error::validation("Number of parameters in request and statement don't match.");
            return value::stored(parameter.ok_or_else(missing)?);
        }
        Ok(json!({"S": self.quoted('\'')?}))
    }

    /// A text in quotes. A quote inside is doubled.
    fn quoted(&mut self, quote: char) -> Result<String, Error> {
        let quoted = self.rest.trim_start();
        let mut chars = quoted.char_indices().peekable();
        if chars.next().is_none_or(|(_, char)| char != quote) {
            return Err(self.unexpected());
        }
        let mut text = String::new();
        while let Some((place, char)) = chars.next() {
            if char != quote {
                text.push(char);
            } else if chars.next_if(|(_, next)| *next == quote).is_some() {
                text.push(quote);
            } else {
                self.rest = &quoted[place + 1..];
                return Ok(text);
            }
        }
        Err(Error::validation("a quote is not closed"))
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(symbol);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn takes_keyword(&mut self, keyword: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(keyword);
        let rest = rest.filter(|rest| !rest.starts_with(|char: char| char.is_alphanumeric()));
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn symbol(&mut self, symbol: &str) -> Result<(), Error> {
        if self.takes(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), Error> {
        if self.takes_keyword(keyword) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> Error {
        let near: String = self.rest.chars().take(20).collect();
        Error::validation(format!("Statement wasn't well formed: this model does not understand it near {near:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_filled_in_in_the_order_of_their_question_marks() {
        let parameters = [json!({"S": "1"}), json!({"S": "2"}), json!({"S": "3"})];
        let statement = r#"UPDATE "t" SET "a" = ? REMOVE "b" WHERE "id" = ? AND "c" = ? AND "d" IS MISSING"#;
        let equal = |name: &str, text: &str| Condition::Compare(name.into(), Comparison::Equal, json!({"S": text}));
        let expected = Statement::Update {
            table: "t".into(),
            set: vec![("a".into(), json!({"S": "1"}))],
            remove: vec!["b".into()],
            conditions: vec![equal("id", "2"), equal("c", "3"), Condition::Missing("d".into())],
        };
        assert_eq!(Statement::parse(statement, &parameters), Ok(expected));
        for wrong in [&parameters[..2], &[&parameters[..], &parameters[..1]].concat()] {
            assert!(Statement::parse(statement, wrong).is_err());
        }
    }

    #[test]
    fn an_insert_has_strings_and_parameters_and_a_doubled_quote_is_one() {
        let statement = r#"INSERT INTO "t""x" VALUE {'id': ?, 'status': 'I''NIT'}"#;
        let item = json!({"id": {"S": "a"}, "status": {"S": "I'NIT"}}).as_object().unwrap().clone();
        let expected = Statement::Insert { table: "t\"x".into(), item };
        assert_eq!(Statement::parse(statement, &[json!({"S": "a"})]), Ok(expected));
    }

    #[test]
    fn what_the_model_does_not_understand_is_refused() {
        let refused = [
            "SELECT",
            r#"DELETE FROM "t" WHERE "id" = 'a'"#,
            r#"UPDATE "t" SET "a" = 'b'"#,
            r#"UPDATE "t" SET "a" = 'b' WHERE "id" = 'a' OR "c" = 'd'"#,
            r#"UPDATE "t" SET "a" = 'b' WHERE "id" = 'a' RETURNING ALL OLD *"#,
            r#"UPDATE "t" SETTING "a" = 'b' WHERE "id" = 'a'"#,
            r#"INSERT INTO "t" VALUE {'id': 'a"#,
            r#"INSERT INTO "t" VALUE {'id': 'a', 'id': 'b'}"#,
        ];
        for refused in refused {
            assert_eq!(Statement::parse(refused, &[]).unwrap_err().code, "ValidationException", "{refused}");
        }
    }
}
