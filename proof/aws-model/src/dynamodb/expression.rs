//! Condition, key condition, update and projection expressions: the part of their grammar that the adapters use.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.html>

use super::value::{self, Item};
use crate::error::{Error, Members};
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// What an item must be like. A comparison with an attribute that is missing, or has another type, does not hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Exists(String),
    Missing(String),
    Compare(String, Comparison, Value),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    pub(crate) fn holds(&self, item: Option<&Item>) -> bool {
        let attribute = |name: &str| item.and_then(|item| item.get(name));
        match self {
            Self::Exists(name) => attribute(name).is_some(),
            Self::Missing(name) => attribute(name).is_none(),
            Self::Compare(name, comparison, with) => attribute(name).is_some_and(|value| comparison.holds(value, with)),
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(item)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(item)),
        }
    }
}

impl Comparison {
    pub(crate) fn holds(self, a: &Value, b: &Value) -> bool {
        if self == Self::Equal {
            return a == b;
        }
        value::compare(a, b).is_some_and(|order| match self {
            Self::Equal => order == Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::GreaterOrEqual => order != Ordering::Less,
        })
    }
}

/// What an update does to an item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Update {
    pub(crate) set: Vec<(String, Value)>,
    pub(crate) remove: Vec<String>,
}

impl Update {
    /// An update of different attributes, none of which is the key.
    pub(crate) fn new(set: Vec<(String, Value)>, remove: Vec<String>, key: &str) -> Result<Self, Error> {
        let mut names = BTreeSet::new();
        for name in set.iter().map(|(name, _)| name).chain(&remove) {
            if name == key {
                return Err(Error::validation(format!(
                    "Cannot update attribute {key}. This attribute is part of the key"
                )));
            }
            if !names.insert(name) {
                return Err(Error::validation("Two document paths overlap with each other"));
            }
        }
        Ok(Self { set, remove })
    }

    pub(crate) fn apply(&self, item: &mut Item) {
        item.extend(self.set.iter().cloned());
        item.retain(|name, _| !self.remove.contains(name));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A name, a placeholder with its `#` or `:`, or a keyword.
    Word(String),
    /// An operator or a bracket.
    Symbol(&'static str),
}

const SYMBOLS: [&str; 9] = ["<=", ">=", "<", ">", "=", "(", ")", ",", "."];

fn tokens(expression: &str) -> Result<Vec<Token>, Error> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while !rest.is_empty() {
        let is_word = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '#' | ':');
        let length = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
        let length = if length > 0 {
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        } else {
            let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)).ok_or_else(|| syntax(rest))?;
            tokens.push(Token::Symbol(symbol));
            symbol.len()
        };
        rest = rest[length..].trim_start();
    }
    tokens.reverse();
    Ok(tokens)
}

fn syntax(near: &str) -> Error {
    let near: String = near.chars().take(20).collect();
    Error::validation(format!("Invalid expression: this model does not understand it near {near:?}"))
}

/// The expressions of one request, and the names and values that they refer to. Each must be used.
pub(crate) struct Expressions<'a> {
    request: Members<'a>,
    names: Option<&'a Map<String, Value>>,
    values: Option<&'a Map<String, Value>>,
    used: BTreeSet<String>,
}

impl<'a> Expressions<'a> {
    pub(crate) const MEMBERS: [&'static str; 2] = ["ExpressionAttributeNames", "ExpressionAttributeValues"];

    pub(crate) fn of(request: Members<'a>) -> Result<Self, Error> {
        let [names, values] = Self::MEMBERS.map(|name| request.optional_map(name));
        Ok(Self { request, names: names?, values: values?, used: BTreeSet::new() })
    }

    /// A condition; `None` if the request has none.
    pub(crate) fn condition(&mut self, member: &str) -> Result<Option<Condition>, Error> {
        let Some(expression) = self.request.optional_text(member)? else { return Ok(None) };
        let mut parser = Parser { tokens: tokens(expression)?, expressions: self };
        let condition = parser.any()?;
        parser.end()?;
        Ok(Some(condition))
    }

    /// An update of an item with this key attribute.
    pub(crate) fn update(&mut self, member: &str, key: &str) -> Result<Update, Error> {
        let mut parser = Parser { tokens: tokens(self.request.text(member)?)?, expressions: self };
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        if parser.takes_keyword("SET") {
            loop {
                let name = parser.name()?;
                parser.symbol("=")?;
                set.push((name, parser.value()?));
                if !parser.takes(",") {
                    break;
                }
            }
        }
        if parser.takes_keyword("REMOVE") {
            remove = parser.names()?;
        }
        parser.end()?;
        Update::new(set, remove, key)
    }

    /// The attributes of a projection.
    pub(crate) fn projection(&mut self, member: &str) -> Result<Vec<String>, Error> {
        let mut parser = Parser { tokens: tokens(self.request.text(member)?)?, expressions: self };
        let names = parser.names()?;
        parser.end()?;
        Ok(names)
    }

    /// Checks that each name and value was used.
    pub(crate) fn end(self) -> Result<(), Error> {
        let defined = self.names.into_iter().chain(self.values).flat_map(Map::keys);
        match defined.into_iter().find(|placeholder| !self.used.contains(*placeholder)) {
            Some(placeholder) => Err(Error::validation(format!("unused in expressions: {placeholder}"))),
            None => Ok(()),
        }
    }

    fn resolve(&mut self, placeholder: &str, of: Option<&'a Map<String, Value>>) -> Result<&'a Value, Error> {
        self.used.insert(placeholder.to_owned());
        of.and_then(|defined| defined.get(placeholder))
            .ok_or_else(|| Error::validation(format!("an expression uses {placeholder}, which is not defined")))
    }
}

struct Parser<'p, 'a> {
    /// What is left to parse, the next token last.
    tokens: Vec<Token>,
    expressions: &'p mut Expressions<'a>,
}

impl Parser<'_, '_> {
    fn any(&mut self) -> Result<Condition, Error> {
        let mut conditions = vec![self.all()?];
        while self.takes_keyword("OR") {
            conditions.push(self.all()?);
        }
        Ok(if conditions.len() == 1 { conditions.remove(0) } else { Condition::Any(conditions) })
    }

    fn all(&mut self) -> Result<Condition, Error> {
        let mut conditions = vec![self.one()?];
        while self.takes_keyword("AND") {
            conditions.push(self.one()?);
        }
        Ok(if conditions.len() == 1 { conditions.remove(0) } else { Condition::All(conditions) })
    }

    fn one(&mut self) -> Result<Condition, Error> {
        if self.takes("(") {
            let condition = self.any()?;
            self.symbol(")")?;
            return Ok(condition);
        }
        for (function, condition) in [
            ("attribute_exists", Condition::Exists as fn(String) -> Condition),
            ("attribute_not_exists", Condition::Missing),
        ] {
            if self.tokens.last() == Some(&Token::Word(function.to_owned())) {
                self.tokens.pop();
                self.symbol("(")?;
                let name = self.name()?;
                self.symbol(")")?;
                return Ok(condition(name));
            }
        }
        let name = self.name()?;
        let comparison = match self.tokens.pop() {
            Some(Token::Symbol("=")) => Comparison::Equal,
            Some(Token::Symbol("<")) => Comparison::Less,
            Some(Token::Symbol("<=")) => Comparison::LessOrEqual,
            Some(Token::Symbol(">")) => Comparison::Greater,
            Some(Token::Symbol(">=")) => Comparison::GreaterOrEqual,
            other => return Err(unexpected(other.as_ref())),
        };
        Ok(Condition::Compare(name, comparison, self.value()?))
    }

    fn names(&mut self) -> Result<Vec<String>, Error> {
        let mut names = vec![self.name()?];
        while self.takes(",") {
            names.push(self.name()?);
        }
        Ok(names)
    }

    /// The name of an attribute, or a placeholder for it.
    fn name(&mut self) -> Result<String, Error> {
        match self.tokens.pop() {
            Some(Token::Word(word)) if word.starts_with('#') => {
                let name = self.expressions.resolve(&word, self.expressions.names)?;
                name.as_str().map(str::to_owned).ok_or_else(|| Error::validation("an attribute name is not a string"))
            }
            Some(Token::Word(word)) if !word.contains([':', '#']) => Ok(word),
            other => Err(unexpected(other.as_ref())),
        }
    }

    fn value(&mut self) -> Result<Value, Error> {
        match self.tokens.pop() {
            Some(Token::Word(word)) if word.starts_with(':') => {
                value::stored(self.expressions.resolve(&word, self.expressions.values)?)
            }
            other => Err(unexpected(other.as_ref())),
        }
    }

    /// Takes a symbol if it comes next.
    fn takes(&mut self, symbol: &'static str) -> bool {
        self.tokens.pop_if(|token| *token == Token::Symbol(symbol)).is_some()
    }

    fn takes_keyword(&mut self, keyword: &str) -> bool {
        let is_it = |token: &mut Token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(keyword));
        self.tokens.pop_if(is_it).is_some()
    }

    fn symbol(&mut self, symbol: &'static str) -> Result<(), Error> {
        if self.takes(symbol) { Ok(()) } else { Err(unexpected(self.tokens.last())) }
    }

    fn end(&mut self) -> Result<(), Error> {
        self.tokens.pop().map_or(Ok(()), |token| Err(unexpected(Some(&token))))
    }
}

fn unexpected(token: Option<&Token>) -> Error {
    match token {
        Some(Token::Word(word)) => syntax(word),
        Some(Token::Symbol(symbol)) => syntax(symbol),
        None => syntax("its end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn condition(expression: &str) -> Result<Condition, Error> {
        let request = json!({
            "C": expression,
            "ExpressionAttributeNames": {"#a": "a"},
            "ExpressionAttributeValues": {":v": {"N": "2"}},
        });
        let mut expressions =
            Expressions::of(Members::of(&request, &["C", Expressions::MEMBERS[0], Expressions::MEMBERS[1]])?)?;
        let condition = expressions.condition("C")?;
        expressions.end()?;
        condition.ok_or_else(|| Error::validation("none"))
    }

    fn holds(expression: &str, item: &Value) -> bool {
        condition(expression).unwrap().holds(item.as_object())
    }

    #[test]
    fn and_binds_more_tightly_than_or() {
        let expression = "attribute_not_exists(b) OR #a = :v AND attribute_exists(c)";
        assert!(holds(expression, &json!({})));
        assert!(!holds(expression, &json!({"a": {"N": "2"}, "b": {"N": "1"}})));
        assert!(holds(expression, &json!({"a": {"N": "2"}, "b": {"N": "1"}, "c": {"N": "1"}})));
        let expression = "(attribute_not_exists(b) OR #a = :v) AND attribute_exists(c)";
        assert!(!holds(expression, &json!({})));
    }

    #[test]
    fn a_comparison_holds_only_for_an_attribute_that_is_there_with_the_same_type() {
        for (operator, holding) in [("=", "2"), ("<", "1"), ("<=", "2"), (">", "3"), (">=", "2")] {
            let expression = format!("#a {operator} :v");
            assert!(holds(&expression, &json!({"a": {"N": holding}})), "{expression}");
            assert!(!holds(&expression, &json!({"a": {"S": holding}})), "{expression}");
            assert!(!holds(&expression, &json!({})), "{expression}");
            assert!(!condition(&expression).unwrap().holds(None), "{expression}");
        }
        assert!(!holds("#a < :v", &json!({"a": {"N": "2"}})) && !holds("#a > :v", &json!({"a": {"N": "2"}})));
    }

    #[test]
    fn what_the_model_does_not_understand_is_refused() {
        let refused = [
            "",
            "#a",
            "#a =",
            "#a = :v AND",
            "#a = :v b",
            "NOT #a = :v",
            "size(#a) = :v",
            "#a.b = :v",
            "#a <> :v",
            "#a IN (:v)",
            ":v = #a",
            "#b = :v",
            "#a = :w",
            "attribute_exists(#a)",
            "a = :v",
        ];
        for refused in refused {
            assert_eq!(condition(refused).unwrap_err().code, "ValidationException", "{refused}");
        }
    }

    #[test]
    fn an_update_changes_each_attribute_once_and_never_the_key() {
        let update = |expression: &str| {
            let request = json!({"U": expression, "ExpressionAttributeValues": {":v": {"S": "x"}}});
            let mut expressions =
                Expressions::of(Members::of(&request, &["U", "ExpressionAttributeValues"]).unwrap()).unwrap();
            expressions.update("U", "id")
        };
        let mut item = Item::from_iter([("b".to_owned(), json!({"S": "y"})), ("c".to_owned(), json!({"S": "z"}))]);
        update("SET a = :v, b = :v REMOVE c, d").unwrap().apply(&mut item);
        assert_eq!(Value::Object(item), json!({"a": {"S": "x"}, "b": {"S": "x"}}));
        for refused in ["SET id = :v", "SET a = :v, a = :v", "SET a = :v REMOVE a", "ADD a :v", "SET a = a + :v"] {
            assert!(update(refused).is_err(), "{refused}");
        }
    }
}
