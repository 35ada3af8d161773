//! Keys that the model does not know, with their values: the JSON text that upstream sent, not a tree of it.
//!
//! A tree of small values takes many times the memory of their text, and nothing here looks into them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Unknown keys in upstream's order. Equal texts are equal; the same values in another spelling are not.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// A JSON object, or nothing where there are no keys.
    object: Box<str>,
}

/// Puts an [`Extra`] together.
#[derive(Debug, Default)]
pub(crate) struct ExtraBuilder {
    object: String,
}

/// A key of an object, borrowed where it has no escapes.
#[derive(Deserialize)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl ExtraBuilder {
    /// What a key with this value takes, in bytes.
    pub(crate) fn cost(key: &str, value: &str) -> usize {
        key.len() + value.len() + "\"\":,".len()
    }

    /// Adds a key; `value` is JSON.
    pub(crate) fn add(&mut self, key: &str, value: &str) {
        self.object.push(if self.object.is_empty() { '{' } else { ',' });
        let key = serde_json::to_string(key).expect("a string is JSON");
        self.object.extend([&key, ":", value]);
    }

    pub(crate) fn finish(mut self) -> Extra {
        if !self.object.is_empty() {
            self.object.push('}');
        }
        Extra { object: self.object.into() }
    }
}

impl Extra {
    pub fn is_empty(&self) -> bool {
        self.object.is_empty()
    }

    /// The memory that the keys take, in bytes.
    pub fn weight(&self) -> usize {
        self.object.len()
    }

    /// Whether there is this key.
    pub fn contains_key(&self, key: &str) -> bool {
        // The outcome of a search that ends early is in its error.
        self.try_for_each(|found, _| if found == key { Err(()) } else { Ok(()) }).is_err()
    }

    /// Calls `visit` for every key with its value.
    pub(crate) fn try_for_each<E>(&self, visit: impl FnMut(&str, &RawValue) -> Result<(), E>) -> Result<(), E> {
        if self.is_empty() {
            return Ok(());
        }
        let mut failed = None;
        let visitor = EachKey { visit, failed: &mut failed };
        // It was valid when it was made, so what fails is `visit`.
        let _ = serde_json::Deserializer::from_str(&self.object).deserialize_map(visitor);
        failed.map_or(Ok(()), Err)
    }
}

struct EachKey<'a, F, E> {
    visit: F,
    failed: &'a mut Option<E>,
}

impl<'de, E, F: FnMut(&str, &RawValue) -> Result<(), E>> Visitor<'de> for EachKey<'_, F, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if let Err(error) = (self.visit)(&key, map.next_value()?) {
                *self.failed = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "{}" } else { &self.object })
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object = if self.is_empty() { "{}" } else { &self.object };
        serde_json::from_str::<&RawValue>(object).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let object: Box<str> = raw.into();
        if !object.starts_with('{') {
            return Err(D::Error::custom("unknown keys are an object"));
        }
        Ok(if object[1..].trim_start().starts_with('}') { Self::default() } else { Self { object } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(pairs: &[(&str, &str)]) -> Extra {
        let mut builder = ExtraBuilder::default();
        for (key, value) in pairs {
            builder.add(key, value);
        }
        builder.finish()
    }

    #[test]
    fn keys_and_the_text_of_their_values_survive() {
        let pairs = [("a", "1"), ("b\"\\\n", r#"{ "x" : [null, 1e999] }"#), ("é", "\"\\ud83d\"")];
        let extra = made(&pairs);
        let text = serde_json::to_string(&extra).expect("JSON");
        assert_eq!(serde_json::from_str::<Extra>(&text).expect("the same"), extra);
        let mut seen = Vec::new();
        let visited: Result<(), ()> = extra.try_for_each(|key, value| {
            seen.push((key.to_owned(), value.get().to_owned()));
            Ok(())
        });
        assert_eq!(visited, Ok(()));
        assert_eq!(seen, pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(extra.contains_key("b\"\\\n") && !extra.contains_key("x"));
    }

    #[test]
    fn no_keys_take_no_memory() {
        let none = made(&[]);
        assert!(none.is_empty() && none == Extra::default() && none.weight() == 0 && !none.contains_key(""));
        assert_eq!(serde_json::to_string(&none).expect("JSON"), "{}");
        assert_eq!(serde_json::from_str::<Extra>(" { } ").expect("an object"), none);
        assert!(serde_json::from_str::<Extra>("[]").is_err());
    }
}
