//! What a user passed as a target or as options, before a backend has looked at it: names and plain
//! values, without anything of JavaScript. Every complaint names the setting and what is allowed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lock::{Error, FenceRetention, MAX_TIME_MS, Result};

/// Where the store is: a URL, or the same facts one by one.
#[derive(Debug)]
pub enum Target {
    /// As one text.
    Url(String),
    /// One by one.
    Facts(Settings),
}

/// One value as it was given. `Debug` hides it, since it may be a password.
#[derive(Clone, PartialEq)]
pub enum Setting {
    /// A string.
    Text(String),
    /// A number.
    Number(f64),
    /// A boolean.
    Flag(bool),
    /// A `Uint8Array`.
    Bytes(Vec<u8>),
    /// Something that no setting can be; holds the name of its type.
    Other(String),
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind())
    }
}

impl Setting {
    fn kind(&self) -> String {
        match self {
            Setting::Text(_) => "a string".into(),
            Setting::Number(_) => "a number".into(),
            Setting::Flag(_) => "a boolean".into(),
            Setting::Bytes(_) => "bytes".into(),
            Setting::Other(kind) => kind.clone(),
        }
    }
}

/// Settings by name. A backend takes out what it knows, then [`Settings::finish`] rejects the rest.
#[derive(Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, Setting>,
    known: Vec<&'static str>,
}

impl FromIterator<(String, Setting)> for Settings {
    fn from_iter<I: IntoIterator<Item = (String, Setting)>>(settings: I) -> Settings {
        Settings { values: settings.into_iter().collect(), known: Vec::new() }
    }
}

impl Settings {
    fn take(&mut self, name: &'static str) -> Option<Setting> {
        self.taken_elsewhere(name);
        self.values.remove(name)
    }

    /// # Errors
    /// `InvalidArgument` when it is there and no string.
    pub fn take_text(&mut self, name: &'static str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Setting::Text(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a string", &other)),
        }
    }

    /// Certificates and keys: PEM text or bytes.
    ///
    /// # Errors
    /// `InvalidArgument` when it is there and neither.
    pub fn take_bytes(&mut self, name: &'static str) -> Result<Option<Vec<u8>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Setting::Text(text)) => Ok(Some(text.into_bytes())),
            Some(Setting::Bytes(bytes)) => Ok(Some(bytes)),
            Some(other) => Err(wrong(name, "a string or bytes", &other)),
        }
    }

    /// Takes a boolean.
    ///
    /// # Errors
    /// `InvalidArgument` when it is there and no boolean.
    pub fn take_flag(&mut self, name: &'static str) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Setting::Flag(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    /// What drivers take as a switch or as a word.
    ///
    /// # Errors
    /// `InvalidArgument` when it is there and neither.
    pub fn take_text_or_flag(&mut self, name: &'static str) -> Result<Option<Setting>> {
        match self.take(name) {
            Some(other @ (Setting::Number(_) | Setting::Bytes(_) | Setting::Other(_))) => {
                Err(wrong(name, "a string, true or false", &other))
            }
            text_or_flag => Ok(text_or_flag),
        }
    }

    /// A time in whole milliseconds, 1 ms to 100 years.
    ///
    /// # Errors
    /// `InvalidArgument` when it is there and no such time.
    pub fn take_millis(&mut self, name: &'static str) -> Result<Option<Duration>> {
        match self.take(name) {
            None => Ok(None),
            Some(Setting::Number(number)) => millis(name, number).map(|ms| Some(Duration::from_millis(ms))),
            Some(other) => Err(wrong(name, "a number of milliseconds", &other)),
        }
    }

    /// The option `fenceRetentionMs` of every backend; without it counters stay for ever.
    ///
    /// # Errors
    /// `InvalidArgument` when it is there and no time in its range.
    pub fn take_fence_retention(&mut self) -> Result<Option<FenceRetention>> {
        let name = "fenceRetentionMs";
        match self.take(name) {
            None => Ok(None),
            Some(Setting::Number(number)) => {
                whole(name, number, FenceRetention::LEAST_MS, FenceRetention::MOST_MS)
                    .and_then(FenceRetention::from_millis)
                    .map(Some)
            }
            Some(other) => Err(wrong(name, "a number of milliseconds", &other)),
        }
    }

    /// A whole number in a range, bounds included.
    ///
    /// # Errors
    /// `InvalidArgument` when it is there and none.
    pub fn take_count(&mut self, name: &'static str, least: u32, most: u32) -> Result<Option<u32>> {
        match self.take(name) {
            None => Ok(None),
            Some(Setting::Number(number)) => whole(name, number, least.into(), most.into())
                .map(|count| Some(u32::try_from(count).expect("the range is one of u32"))),
            Some(other) => Err(wrong(name, "a number", &other)),
        }
    }

    /// One of a few words; answers its index.
    ///
    /// # Errors
    /// `InvalidArgument` when it is there and none of them.
    pub fn take_choice(&mut self, name: &'static str, choices: &[&str]) -> Result<Option<usize>> {
        match self.take_text(name)? {
            None => Ok(None),
            Some(text) => match choices.iter().position(|choice| *choice == text) {
                Some(index) => Ok(Some(index)),
                None => Err(Error::invalid(format!("{name} must be one of {choices:?}; {text:?} was given"))),
            },
        }
    }

    /// A name that somebody else takes, so that `finish` lists it too.
    pub fn taken_elsewhere(&mut self, name: &'static str) {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
    }

    /// # Errors
    /// `InvalidArgument` that names a setting nobody has taken, and those there are.
    pub fn finish(self) -> Result<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format!(
                "unknown option {name:?}; known here are {}",
                self.known.join(", ")
            ))),
        }
    }
}

/// A time in milliseconds as JavaScript gave it.
///
/// # Errors
/// `InvalidArgument` for NaN, infinities, fractions, below 1 and above 100 years.
pub fn millis(name: &str, number: f64) -> Result<u64> {
    whole(name, number, 1, MAX_TIME_MS)
}

/// A whole number as JavaScript gave it.
///
/// # Errors
/// `InvalidArgument` for NaN, infinities, fractions and what lies outside the range.
pub fn whole(name: &str, number: f64, least: u64, most: u64) -> Result<u64> {
    #[allow(clippy::cast_precision_loss, reason = "no bound here reaches 2^53")]
    let in_range = number >= least as f64 && number <= most as f64;
    if number.fract() == 0.0 && in_range {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        return Ok(number as u64);
    }
    let allowed = match least {
        1 => format!("a positive integer of at most {most}"),
        _ => format!("an integer from {least} to {most}"),
    };
    Err(Error::invalid(format!("{name} must be {allowed}; {number} was given")))
}

fn wrong(name: &str, allowed: &str, given: &Setting) -> Error {
    Error::invalid(format!("{name} must be {allowed}; {} was given", given.kind()))
}
