//! A table of the file, read key by key: unknown keys and wrong types become complaints.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::complaint::Complaint;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Typed<T> {
    /// The value.
    pub(super) value: T,
    /// Its bytes in the file.
    pub(super) span: Range<usize>,
}

/// A table whose keys are all known.
pub(super) struct Keys<'t, 'c> {
    table: &'t DeTable<'t>,
    /// As a person writes it: `[telemetry]`.
    place: &'t str,
    complaints: &'c mut Vec<Complaint>,
}

impl<'t, 'c> Keys<'t, 'c> {
    /// Complains about every key that is not in `known`.
    pub(super) fn of(
        table: &'t DeTable<'t>,
        place: &'t str,
        known: &[&str],
        complaints: &'c mut Vec<Complaint>,
    ) -> Self {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let label = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "unknown key".to_owned(),
            };
            complaints.push(
                Complaint::at(
                    key.span(),
                    format!("unknown key `{name}` in {place}"),
                    label,
                )
                .help(format!("known keys: {}", known.join(", "))),
            );
        }
        Self {
            table,
            place,
            complaints,
        }
    }

    fn wrong(&mut self, value: &Spanned<DeValue<'_>>, key: &str, wanted: &str) {
        let found = value.get_ref().type_str();
        self.complaints.push(Complaint::at(
            value.span(),
            format!("`{key}` in {} has to be {wanted}", self.place),
            format!("this is {} {found}", article(found)),
        ));
    }

    /// A complaint about a value.
    pub(super) fn complain(&mut self, complaint: Complaint) {
        self.complaints.push(complaint);
    }

    /// Whether the key is there, whatever its type.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the value of `key` stands; nowhere without it.
    pub(super) fn span(&self, key: &str) -> Range<usize> {
        self.get(key).map(Spanned::span).unwrap_or_default()
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    /// A string.
    pub(super) fn text(&mut self, key: &str) -> Option<Typed<String>> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(Typed {
                value: text.to_owned(),
                span: value.span(),
            }),
            None => {
                self.wrong(value, key, "a string");
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str) -> Option<Typed<bool>> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool().map(|flag| Typed {
            value: flag,
            span: value.span(),
        });
        if flag.is_none() {
            self.wrong(value, key, "true or false");
        }
        flag
    }

    /// A number or a string; the number as it was typed.
    pub(super) fn number_or_text(&mut self, key: &str) -> Option<Typed<String>> {
        let value = self.get(key)?;
        let number = value.get_ref().as_integer().map(|number| Typed {
            value: number.as_str().to_owned(),
            span: value.span(),
        });
        number.or_else(|| self.text(key))
    }

    /// A list of strings.
    pub(super) fn texts(&mut self, key: &str) -> Option<Typed<Vec<Typed<String>>>> {
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value, key, "a list of strings");
            return None;
        };
        let mut texts = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(Typed {
                    value: text.to_owned(),
                    span: item.span(),
                }),
                None => self.wrong(item, key, "a list of strings"),
            }
        }
        Some(Typed {
            value: texts,
            span: value.span(),
        })
    }

    /// A list of strings with something in it; a single string is a list of one. Empty without the key.
    pub(super) fn some_texts(&mut self, key: &str) -> Vec<Typed<String>> {
        if self.is_text(key) {
            return self.text(key).into_iter().collect();
        }
        let Some(texts) = self.texts(key) else {
            return Vec::new();
        };
        let is_empty = self
            .get(key)
            .and_then(|value| value.get_ref().as_array())
            .is_some_and(|array| array.is_empty());
        if is_empty {
            self.complain(
                Complaint::at(
                    texts.span,
                    format!("`{key}` in {} is empty", self.place),
                    "names nothing",
                )
                .help("leave the key out if that is meant"),
            );
        }
        texts.value
    }

    /// The same of a few words.
    pub(super) fn some_words<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Vec<T> {
        let texts = self.some_texts(key).into_iter();
        texts
            .filter_map(|text| self.one_of(key, text, words))
            .collect()
    }

    /// A table of strings.
    pub(super) fn text_table(&mut self, key: &str) -> Option<Vec<(Typed<String>, Typed<String>)>> {
        let value = self.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(value, key, "a table of strings");
            return None;
        };
        let mut pairs = Vec::new();
        for (name, item) in table.iter() {
            match item.get_ref().as_str() {
                Some(text) => pairs.push((
                    Typed {
                        value: name.get_ref().to_string(),
                        span: name.span(),
                    },
                    Typed {
                        value: text.to_owned(),
                        span: item.span(),
                    },
                )),
                None => self.wrong(item, key, "a table of strings"),
            }
        }
        Some(pairs)
    }

    /// A table in this one. What it complains of is told with the rest.
    pub(super) fn inner<'s>(
        &'s mut self,
        key: &str,
        place: &'s str,
        known: &[&str],
    ) -> Option<Keys<'s, 's>> {
        let table = self.get(key)?.get_ref().as_table()?;
        Some(Keys::of(table, place, known, self.complaints))
    }

    /// A table of anything that JSON knows too.
    pub(super) fn json_table(&mut self, key: &str) -> Option<serde_json::Map<String, Value>> {
        let value = self.get(key)?;
        if !value.get_ref().is_table() {
            self.wrong(value, key, "a table");
            return None;
        }
        match json(value) {
            Ok(Value::Object(table)) => Some(table),
            Ok(_) => None,
            Err(culprit) => {
                self.wrong(culprit, key, "a table of what JSON knows");
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong(value, key, "true or false");
        }
        found
    }

    /// A whole number within a range.
    pub(super) fn integer(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.get(key)?;
        let Some(typed) = value.get_ref().as_integer() else {
            self.wrong(value, key, "a whole number");
            return None;
        };
        let number = u32::from_str_radix(typed.as_str(), typed.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = range.into_inner();
            self.complaints.push(Complaint::at(
                value.span(),
                format!("`{key}` is out of range"),
                format!("has to be from {least} to {most}"),
            ));
        }
        number
    }

    /// Whether `key` holds a string.
    pub(super) fn is_text(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.get_ref().is_str())
    }

    /// Whether `key` holds a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|value| value.get_ref().is_table())
    }

    /// A duration such as `"60s"`.
    pub(super) fn duration(&mut self, key: &str) -> Option<Typed<Duration>> {
        let text = self.text(key)?;
        self.parse_duration(key, text)
    }

    /// A list of durations.
    pub(super) fn durations(&mut self, key: &str) -> Option<Typed<Vec<Typed<Duration>>>> {
        let texts = self.texts(key)?;
        let span = texts.span;
        let value = texts
            .value
            .into_iter()
            .filter_map(|text| self.parse_duration(key, text))
            .collect();
        Some(Typed { value, span })
    }

    fn parse_duration(&mut self, key: &str, text: Typed<String>) -> Option<Typed<Duration>> {
        match humantime::parse_duration(&text.value) {
            Ok(value) => Some(Typed {
                value,
                span: text.span,
            }),
            Err(error) => {
                self.complaints.push(
                    Complaint::at(
                        text.span,
                        format!("`{key}` in {} is no duration", self.place),
                        error.to_string(),
                    )
                    .help("write a number and a unit: \"500ms\", \"60s\", \"5m\", \"1h\""),
                );
                None
            }
        }
    }

    /// A whole number within a range.
    pub(super) fn count(&mut self, key: &str, range: RangeInclusive<usize>) -> Option<usize> {
        let value = self.get(key)?;
        let Some(typed) = value.get_ref().as_integer() else {
            self.wrong(value, key, "a whole number");
            return None;
        };
        let count = usize::from_str_radix(typed.as_str(), typed.radix()).ok();
        let count = count.filter(|count| range.contains(count));
        if count.is_none() {
            self.complaints.push(Complaint::at(
                value.span(),
                format!("`{key}` in {} is out of range", self.place),
                format!("has to be from {} to {}", range.start(), range.end()),
            ));
        }
        count
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        self.one_of(key, text, words)
    }

    /// A list of a few words.
    pub(super) fn words<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<Vec<T>> {
        let texts = self.texts(key)?.value.into_iter();
        Some(
            texts
                .filter_map(|text| self.one_of(key, text, words))
                .collect(),
        )
    }

    fn one_of<T: Copy>(
        &mut self,
        key: &str,
        text: Typed<String>,
        words: &[(&str, T)],
    ) -> Option<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let label = match nearest(&text.value, &known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "unknown value".to_owned(),
        };
        self.complaints.push(
            Complaint::at(
                text.span,
                format!(
                    "`{key}` in {} cannot be \"{}\"",
                    self.place,
                    text.value.escape_debug()
                ),
                label,
            )
            .help(format!("possible: {}", known.join(", "))),
        );
        None
    }

    /// A sub-table.
    pub(super) fn table(&mut self, key: &str) -> Option<&'t DeTable<'t>> {
        let value = self.get(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong(value, key, "a table");
        }
        table
    }

    /// The keys of a sub-table, which is called by its key.
    pub(super) fn inside<'s>(&'s mut self, key: &'t str, known: &[&str]) -> Option<Keys<'t, 's>> {
        let table = self.table(key)?;
        Some(Keys::of(table, key, known, self.complaints))
    }

    /// One table (`[key]`) or a list of them (`[[key]]`), each with its place.
    pub(super) fn table_or_tables(&mut self, key: &str) -> Vec<(&'t DeTable<'t>, Range<usize>)> {
        if self.is_table(key) {
            let table = self.table(key);
            return table
                .map(|table| (table, self.span(key)))
                .into_iter()
                .collect();
        }
        self.tables(key)
    }

    /// A list of tables (`[[key]]`), each with its place.
    pub(super) fn tables(&mut self, key: &str) -> Vec<(&'t DeTable<'t>, Range<usize>)> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value, key, &format!("a list of tables, written [[{key}]]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push((table, item.span())),
                None => self.wrong(item, key, &format!("a list of tables, written [[{key}]]")),
            }
        }
        tables
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

/// The known word that was probably meant: at most a third of its letters differ.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate))
        .filter(|(distance, candidate)| distance * 3 <= candidate.len().max(word.len()))
        .min()
        .map(|(_, candidate)| candidate)
}
/// A value as JSON; the first that JSON does not know (a date, a number too large) where it is not.
fn json<'v>(value: &'v Spanned<DeValue<'v>>) -> Result<Value, &'v Spanned<DeValue<'v>>> {
    let found = match value.get_ref() {
        DeValue::String(text) => Some(Value::from(text.as_ref())),
        DeValue::Boolean(flag) => Some(Value::from(*flag)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(Value::from),
        DeValue::Float(number) => {
            let number = number.as_str().parse::<f64>().ok();
            number
                .and_then(serde_json::Number::from_f64)
                .map(Value::from)
        }
        DeValue::Datetime(_) => None,
        DeValue::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(json).collect();
            Some(items?.into())
        }
        DeValue::Table(table) => {
            let pair = |(name, item): (&Spanned<_>, _)| {
                let name: &std::borrow::Cow<'_, str> = name.get_ref();
                Ok((name.to_string(), json(item)?))
            };
            let pairs: Result<serde_json::Map<_, _>, _> = table.iter().map(pair).collect();
            Some(pairs?.into())
        }
    };
    found.ok_or(value)
}
