//! `pg_service.conf`: connection parameters under a name.

use std::path::{Path, PathBuf};

use crate::lock::{Error, Result};

/// The parameters of a service, from the user's file, else from the system's, as libpq looks for them.
///
/// # Errors
/// `InvalidArgument` for a service that is in neither, a file that can't be read, and a line that is none.
pub(in crate::stores::postgres) fn find(
    service: &str,
    file: Option<String>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>> {
    let named = file.or_else(|| environment("PGSERVICEFILE")).filter(|path| !path.is_empty());
    let is_named = named.is_some();
    let in_home = || std::env::home_dir().map(|home| home.join(".pg_service.conf"));
    let of_system = environment("PGSYSCONFDIR").map(|dir| PathBuf::from(dir).join("pg_service.conf"));
    if let Some(path) = named.map(PathBuf::from).or_else(in_home)
        && (is_named || path.is_file())
        && let Some(found) = read(&path, service)?
    {
        return Ok(found);
    }
    if let Some(path) = of_system.filter(|path| path.is_file())
        && let Some(found) = read(&path, service)?
    {
        return Ok(found);
    }
    Err(Error::invalid(format!(
        "the service {service:?} (PGSERVICE) is in no file; it is looked for in PGSERVICEFILE or ~/.pg_service.conf, then in PGSYSCONFDIR/pg_service.conf"
    )))
}

/// The first section of that name.
fn read(path: &Path, service: &str) -> Result<Option<Vec<(String, String)>>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::invalid(format!("the service file {} can't be read", path.display())).because(error)
    })?;
    let mut found: Option<Vec<(String, String)>> = None;
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if name.strip_suffix(']') == Some(service) {
                found = Some(Vec::new());
            }
        } else if let Some(parameters) = &mut found {
            let Some((name, value)) = line.split_once('=') else {
                // Not the line itself, which may hold a password.
                let place = format!("line {} of the service file {}", number + 1, path.display());
                return Err(Error::invalid(format!("{place} must be name=value")));
            };
            parameters.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    Ok(found)
}
