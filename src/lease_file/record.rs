//! The one JSON line of a lease file. What Go's `encoding/json` takes for a valid record is one here.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::origin::Origin;

/// A valid record: version 1, a non-blank owner, pid and heartbeat above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub owner_id: String,
    pub pid: u64,
    /// Unix nanoseconds.
    pub heartbeat: i64,
    /// Where the owner lives, as far as the record tells: Go's do not.
    pub origin: Origin,
}

/// The digits of a heartbeat from September 2001 until the year 2262, when 64 bits are full.
pub const HEARTBEAT_DIGITS: usize = 19;

impl Record {
    /// The line and where in it the heartbeat's digits are, so that they can be overwritten in place.
    pub fn encode(&self) -> (Vec<u8>, Range<usize>) {
        let before = format!(
            "{{\"version\":1,\"ownerID\":{},\"pid\":{},\"lastHeartbeatUnixNano\":",
            quoted(&self.owner_id),
            self.pid
        );
        let digits = before.len()..before.len() + HEARTBEAT_DIGITS;
        let mut line = before;
        line.push_str(&heartbeat_digits(self.heartbeat));
        let Origin { host, boot_id, pid_namespace, start_time } = &self.origin;
        if let Some(host) = host {
            line.push_str(&format!(",\"host\":{}", quoted(host)));
        }
        if let Some(boot_id) = boot_id {
            line.push_str(&format!(",\"bootID\":{}", quoted(boot_id)));
        }
        if let Some(pid_namespace) = pid_namespace {
            line.push_str(&format!(",\"pidNS\":{pid_namespace}"));
        }
        if let Some(start_time) = start_time {
            line.push_str(&format!(",\"startTime\":{start_time}"));
        }
        line.push_str("}\n");
        (line.into_bytes(), digits)
    }

    /// `None` for everything that is no valid record.
    pub fn decode(content: &[u8]) -> Option<Record> {
        // Like Go, which replaces what is not UTF-8 and goes on.
        let content = String::from_utf8_lossy(content);
        let Fields(fields) = serde_json::from_str(&content).ok()?;
        let pid = u64::try_from(fields.pid).ok().filter(|pid| *pid > 0)?;
        let valid = fields.version == 1 && !fields.owner_id.trim().is_empty() && fields.heartbeat > 0;
        valid.then_some(Record {
            owner_id: fields.owner_id,
            pid,
            heartbeat: fields.heartbeat,
            origin: fields.origin,
        })
    }
}

/// Always 19 digits: a clock before 2001 is written as the first moment that has so many.
pub fn heartbeat_digits(heartbeat: i64) -> String {
    heartbeat.max(1_000_000_000_000_000_000).to_string()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[derive(Default)]
struct Raw {
    version: i64,
    owner_id: String,
    pid: i64,
    heartbeat: i64,
    origin: Origin,
}

/// An object read as Go reads one: names in any case, the last of equal names counts, `null` changes nothing.
struct Fields(Raw);

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

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            owner_id: "4242-1763683200123456789-1".into(),
            pid: 4242,
            heartbeat: 1_763_683_200_123_456_789,
            origin: Origin::default(),
        }
    }

    #[test]
    fn the_line_is_that_of_go() {
        let (line, digits) = record().encode();
        let expected = "{\"version\":1,\"ownerID\":\"4242-1763683200123456789-1\",\"pid\":4242,\"lastHeartbeatUnixNano\":1763683200123456789}\n";
        assert_eq!(line, expected.as_bytes());
        assert_eq!(&line[digits], b"1763683200123456789");
    }

    #[test]
    fn our_fields_come_behind_and_are_read_back() {
        let origin = Origin {
            host: Some("a \"host\"".into()),
            boot_id: Some("b".into()),
            pid_namespace: Some(4_026_531_836),
            start_time: Some(1_762_541),
        };
        let record = Record { origin, ..record() };
        let (line, digits) = record.encode();
        assert!(line.ends_with(
            b"1763683200123456789,\"host\":\"a \\\"host\\\"\",\"bootID\":\"b\",\"pidNS\":4026531836,\"startTime\":1762541}\n"
        ));
        assert_eq!(digits.len(), HEARTBEAT_DIGITS);
        assert_eq!(Record::decode(&line), Some(record));
    }

    #[test]
    fn a_clock_before_2001_still_has_19_digits() {
        for clock in [i64::MIN, 0, 1, 999_999_999_999_999_999] {
            assert_eq!(heartbeat_digits(clock).len(), HEARTBEAT_DIGITS);
        }
        assert_eq!(heartbeat_digits(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn names_in_any_case_and_repeated_names_are_read_as_go_reads_them() {
        let read = |text: &str| Record::decode(text.as_bytes());
        let expected = Record { owner_id: "x".into(), pid: 2, heartbeat: 3, origin: Origin::default() };
        for text in [
            r#"{"VERSION":1,"OwnerId":"x","PID":2,"lastheartbeatunixnano":3}"#,
            r#"{"version":7,"version":1,"ownerID":"y","ownerID":"x","pid":1,"pid":2,"lastHeartbeatUnixNano":3}"#,
            r#"{"version":1,"version":null,"ownerID":"x","ownerID":null,"pid":2,"lastHeartbeatUnixNano":3,"pid":null}"#,
            "{\"ver\u{17F}ion\":1,\"ownerID\":\"x\",\"pid\":2,\"lastHeartbeatUnixNano\":3}",
            r#"{"\u0076ersion":1,"ownerID":"\u0078","pid":2,"lastHeartbeatUnixNano":3}"#,
        ] {
            assert_eq!(read(text), Some(expected.clone()), "{text}");
        }
        assert!(read(r#"{"version":1.0,"ownerID":"x","pid":2,"lastHeartbeatUnixNano":3}"#).is_none());
        assert!(read(r#"{"version":1,"ownerID":"x","pid":2e0,"lastHeartbeatUnixNano":3}"#).is_none());
        // Go reports the wrong type even where a right one follows.
        assert!(
            read(r#"{"version":1,"ownerID":5,"ownerID":"x","pid":2,"lastHeartbeatUnixNano":3}"#).is_none()
        );
        let lone = read(r#"{"version":1,"ownerID":"\ud800","pid":2,"lastHeartbeatUnixNano":3,"\udc00":1}"#);
        assert!(lone.is_some(), "half a surrogate pair is replaced");
    }

    #[test]
    fn nothing_in_our_own_fields_makes_a_record_invalid() {
        let text = r#"{"version":1,"ownerID":"x","pid":2,"lastHeartbeatUnixNano":3,"host":5,"bootID":{"a":[1e999]},"pidNS":-1,"startTime":"7"}"#;
        let record = Record::decode(text.as_bytes()).expect("it is valid");
        assert_eq!(record.origin, Origin::default());
    }
}
