//! Connection parameters by their libpq names, from a URL, from facts and from the environment.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::service;
use crate::lock::{Error, Result};

/// What may be said, the environment variable that says it where the target does not, and whether the
/// target's word is heeded or only tolerated.
const KNOWN: &[(&str, Option<&str>)] = &[
    ("host", Some("PGHOST")),
    ("hostaddr", Some("PGHOSTADDR")),
    ("port", Some("PGPORT")),
    ("dbname", Some("PGDATABASE")),
    ("user", Some("PGUSER")),
    ("password", Some("PGPASSWORD")),
    ("passfile", Some("PGPASSFILE")),
    ("options", Some("PGOPTIONS")),
    ("application_name", Some("PGAPPNAME")),
    ("fallback_application_name", None),
    ("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    ("target_session_attrs", Some("PGTARGETSESSIONATTRS")),
    ("load_balance_hosts", Some("PGLOADBALANCEHOSTS")),
    ("channel_binding", Some("PGCHANNELBINDING")),
    ("sslmode", Some("PGSSLMODE")),
    ("ssl", None),
    ("sslnegotiation", Some("PGSSLNEGOTIATION")),
    ("sslrootcert", Some("PGSSLROOTCERT")),
    ("sslcert", Some("PGSSLCERT")),
    ("sslkey", Some("PGSSLKEY")),
    ("sslsni", Some("PGSSLSNI")),
    ("ssl_min_protocol_version", Some("PGSSLMINPROTOCOLVERSION")),
    ("gssencmode", Some("PGGSSENCMODE")),
    ("pgbouncer", None),
    ("prepare", None),
    ("service", Some("PGSERVICE")),
    ("servicefile", Some("PGSERVICEFILE")),
];

/// Variables that ask for protection which is not there: to ignore them would be to do without it.
const REFUSED: &[(&str, &str)] = &[
    ("PGREQUIREAUTH", "the method of the log-in can't be restricted here, except by channel_binding"),
    ("PGREQUIREPEER", "the account of a server behind a unix socket is not checked here"),
    ("PGSSLCRL", "lists of revoked certificates are not read here"),
    ("PGSSLCRLDIR", "lists of revoked certificates are not read here"),
];

/// Parameters that change nothing here: the encoding is always UTF-8, keepalives are always on, and
/// nothing is compressed.
const TOLERATED: &[&str] = &[
    "client_encoding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslcompression",
];

/// Parameters by name; an empty value counts as none, as libpq has it. Holds a password: not for printing.
#[derive(Default)]
pub(in crate::stores::postgres) struct Parameters(BTreeMap<&'static str, String>);

impl Parameters {
    /// The five parts of `postgres://user:password@host:port,host:port/database?name=value`, all optional.
    ///
    /// # Errors
    /// `InvalidArgument` that says which part is wrong, without showing user information or values.
    pub(in crate::stores::postgres) fn from_url(url: &str) -> Result<Parameters> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| malformed("it has no \"://\""))?;
        if !matches!(scheme.to_ascii_lowercase().as_str(), "postgres" | "postgresql") {
            return Err(malformed("its scheme must be postgres or postgresql"));
        }
        if rest.contains('#') {
            return Err(malformed("it has a fragment; write '#' in a password as %23"));
        }
        let (rest, query) = split(rest, '?');
        let (authority, database) = split(rest, '/');
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (user_info, hosts),
            None => ("", authority),
        };
        let (user, password) = split(user_info, ':');
        let mut parameters = Parameters::default();
        parameters.set("user", decode("user name", user)?);
        parameters.set("password", decode("password", password.unwrap_or_default())?);
        parameters.set("dbname", decode("database name", database.unwrap_or_default())?);
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',') {
            let (name, port) = host_and_port(host)?;
            names.push(decode("host", name)?);
            ports.push(port);
        }
        parameters.set("host", join(&names));
        parameters.set("port", join(&ports));
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = split(pair, '=');
            let name = decode("parameter", name)?;
            let value = decode(&format!("parameter {name}"), value.unwrap_or_default())?;
            parameters.add(&name, value)?;
        }
        Ok(parameters)
    }

    /// # Errors
    /// `InvalidArgument` when nobody knows the name.
    pub(in crate::stores::postgres) fn add(&mut self, name: &str, value: String) -> Result<()> {
        if TOLERATED.contains(&name) {
            return Ok(());
        }
        match KNOWN.iter().find(|(known, _)| *known == name) {
            Some((known, _)) => {
                self.set(known, value);
                Ok(())
            }
            // The name is quoted, never the value, which may be a misplaced password.
            None => Err(malformed(&format!(
                "its parameter {name:?} is unknown; known are {}",
                KNOWN.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    pub(in crate::stores::postgres) fn set(&mut self, name: &'static str, value: String) {
        if !value.is_empty() {
            self.0.insert(name, value);
        }
    }

    /// Takes from the service, then from the environment, what the target left open.
    ///
    /// # Errors
    /// `InvalidArgument` for a service that is not found or not understood, and for variables of [`REFUSED`].
    pub(in crate::stores::postgres) fn complete(
        &mut self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<()> {
        for (variable, why) in REFUSED {
            if environment(variable).is_some_and(|value| !value.is_empty()) {
                return Err(Error::invalid(format!(
                    "{variable} is set, but {why}; unset it for this process"
                )));
            }
        }
        // What drivers of Node.js call `ssl`, a switch or a mode, is the target's word on `sslmode`.
        if let Some(ssl) = self.take("ssl") {
            let mode = match ssl.as_str() {
                "true" | "1" => "verify-full".to_owned(),
                "false" | "0" => "disable".to_owned(),
                _ => ssl,
            };
            self.0.entry("sslmode").or_insert(mode);
        }
        let has_host = self.0.contains_key("host") || self.0.contains_key("hostaddr");
        let (service, file) = (self.take("service"), self.take("servicefile"));
        if let Some(service) = service.or_else(|| environment("PGSERVICE")).filter(|name| !name.is_empty()) {
            for (name, value) in service::find(&service, file, &environment)? {
                self.add_from_service(&service, &name, value, has_host)?;
            }
        }
        let has_host = has_host || self.0.contains_key("host");
        for (name, variable) in KNOWN {
            if matches!(*name, "service" | "servicefile") {
                continue;
            }
            // An address from the environment does not belong to a host that the target names.
            let foreign = *name == "hostaddr" && has_host;
            if let Some(value) =
                variable.filter(|_| !foreign && !self.0.contains_key(name)).and_then(&environment)
            {
                self.set(name, value);
            }
        }
        Ok(())
    }

    fn add_from_service(&mut self, service: &str, name: &str, value: String, has_host: bool) -> Result<()> {
        let known = KNOWN.iter().map(|(known, _)| *known).find(|known| *known == name && name != "service");
        match known {
            // Neither what the target says nor an address that belongs to another host.
            Some(known) if self.0.contains_key(known) || (known == "hostaddr" && has_host) => {}
            Some(known) => self.set(known, value),
            None if TOLERATED.contains(&name) => {}
            None => {
                return Err(Error::invalid(format!(
                    "the service {service:?} has a parameter {name:?}, which is not known here"
                )));
            }
        }
        Ok(())
    }

    pub(in crate::stores::postgres) fn take(&mut self, name: &'static str) -> Option<String> {
        self.0.remove(name)
    }

    /// One of a few words; answers its index.
    pub(in crate::stores::postgres) fn take_choice(
        &mut self,
        name: &'static str,
        choices: &[&str],
    ) -> Result<Option<usize>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match choices.iter().position(|choice| *choice == value) {
            Some(index) => Ok(Some(index)),
            None => Err(Error::invalid(format!("{name} must be one of {choices:?}; {value:?} was given"))),
        }
    }

    pub(in crate::stores::postgres) fn take_flag(&mut self, name: &'static str) -> Result<Option<bool>> {
        Ok(self.take_choice(name, &["false", "true", "0", "1"])?.map(|index| index % 2 == 1))
    }
}

/// A comma-separated list of which nothing remains when every item is empty.
fn join(items: &[String]) -> String {
    if items.iter().all(String::is_empty) { String::new() } else { items.join(",") }
}

/// `host`, `host:port`, `[address]` or `[address]:port`; the port may be missing.
pub(in crate::stores::postgres) fn host_and_port(text: &str) -> Result<(&str, String)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) =
                rest.split_once(']').ok_or_else(|| malformed("an IPv6 address lacks its ']'"))?;
            (address, rest)
        }
        None => match text.find(':') {
            Some(colon) => text.split_at(colon),
            None => (text, ""),
        },
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, String::new())),
        Some(port) => Ok((host, port.to_owned())),
        None => Err(malformed("only a port may follow the ']' of an IPv6 address")),
    }
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn decode(part: &str, text: &str) -> Result<String> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| malformed(&format!("its {part} is not UTF-8 once the percent signs are decoded")))?;
    if text.contains('\0') {
        return Err(malformed(&format!("its {part} holds U+0000")));
    }
    Ok(text.into_owned())
}

fn malformed(problem: &str) -> Error {
    Error::invalid(format!("the PostgreSQL URL is malformed: {problem}"))
}
