//! A record's JSON, understood as Go's `encoding/json` understands it.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::origin::Origin;

/// The fields as they are, valid or not.
#[derive(Default)]
pub struct Raw {
    pub version: i64,
    pub owner_id: String,
    pub pid: i64,
    pub heartbeat: i64,
    pub origin: Origin,
}

/// An object read as Go reads one: names in any case, the last of equal names counts, `null` changes nothing.
struct Fields(Raw);

/// `None` for what is no object with those types.
pub fn read(content: &[u8]) -> Option<Raw> {
    // Like Go, which replaces what is not UTF-8 and goes on.
    let content = String::from_utf8_lossy(content);
    serde_json::from_str(&content).ok().map(|Fields(raw)| raw)
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut raw = Raw::default();
                while let Some(name) = map.next_key_seed(Text)? {
                    match folded(&name).as_str() {
                        "version" => keep(&mut raw.version, map.next_value()?),
                        "ownerid" => keep(&mut raw.owner_id, map.next_value_seed(OptionalText)?),
                        "pid" => keep(&mut raw.pid, map.next_value()?),
                        "lastheartbeatunixnano" => keep(&mut raw.heartbeat, map.next_value()?),
                        _ => match name.as_str() {
                            "host" => raw.origin.host = map.next_value_seed(Loose)?.text(),
                            "bootID" => raw.origin.boot_id = map.next_value_seed(Loose)?.text(),
                            "pidNS" => raw.origin.pid_namespace = map.next_value_seed(Loose)?.number(),
                            "startTime" => raw.origin.start_time = map.next_value_seed(Loose)?.number(),
                            _ => {
                                map.next_value::<IgnoredAny>()?;
                            }
                        },
                    }
                }
                Ok(Fields(raw))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn keep<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Go folds by Unicode's simple rules, which make two letters outside ASCII equal to one within.
fn folded(name: &str) -> String {
    let fold = |c: char| match c {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

/// A string in which, as in Go, half of a surrogate pair is replaced.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

struct OptionalText;

impl<'de> DeserializeSeed<'de> for OptionalText {
    type Value = Option<String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for OptionalText {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Text.deserialize(deserializer).map(Some)
    }
}

/// A value of one of our own fields: readers ignore them, so nothing in them makes a record invalid.
struct Loose;

enum Value {
    Text(String),
    Number(u64),
    Else,
}

impl Value {
    fn text(self) -> Option<String> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    fn number(self) -> Option<u64> {
        if let Value::Number(number) = self { Some(number) } else { None }
    }
}

impl<'de> DeserializeSeed<'de> for Loose {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let raw: Box<serde_json::value::RawValue> = Deserialize::deserialize(deserializer)?;
        let raw = raw.get();
        let text = || serde_json::from_str(raw).map(Value::Text);
        Ok(serde_json::from_str(raw).map(Value::Number).or_else(|_| text()).unwrap_or(Value::Else))
    }
}
