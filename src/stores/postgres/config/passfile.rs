//! `~/.pgpass`: passwords by host, port, database and user, for targets that name none.

use std::path::{Path, PathBuf};

use crate::stores::target::Secret;

/// Where the file would be. It is read at each connect, and heeded only where nobody else can read it.
#[derive(Clone, Debug)]
pub(in crate::stores::postgres) struct Passfile(PathBuf);

impl Passfile {
    /// The file that was named, or the one in the user's home directory.
    pub(in crate::stores::postgres) fn at(path: Option<String>) -> Option<Passfile> {
        let in_home = || std::env::home_dir().map(|home| home.join(".pgpass"));
        path.map(PathBuf::from).or_else(in_home).map(Passfile)
    }

    pub(in crate::stores::postgres) fn path(&self) -> &Path {
        &self.0
    }

    /// The password of the first line that fits.
    pub(in crate::stores::postgres) fn find(
        &self,
        host: &str,
        port: u16,
        database: &str,
        user: &str,
    ) -> Option<Secret> {
        if !is_private(&self.0) {
            return None;
        }
        let text = std::fs::read_to_string(&self.0).ok()?;
        let port = port.to_string();
        text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let fields = fields(line);
            let wanted = [host, &port, database, user];
            let fits =
                fields.len() >= 5 && wanted.iter().zip(&fields).all(|(is, says)| says == "*" || says == is);
            fits.then(|| Secret::new(fields[4].clone()))
        })
    }
}

/// Fields between colons; a backslash takes the next character as it stands.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            c => {
                let c = if c == '\\' { characters.next().unwrap_or(c) } else { c };
                if let Some(field) = fields.last_mut() {
                    field.push(c);
                }
            }
        }
    }
    fields
}

/// The name of the account that this process runs as.
#[cfg(unix)]
pub(in crate::stores::postgres) fn system_user() -> Option<String> {
    Some(nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten()?.name)
}

#[cfg(not(unix))]
pub(in crate::stores::postgres) fn system_user() -> Option<String> {
    std::env::var("USERNAME").ok()
}

#[cfg(unix)]
fn is_private(path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o077 == 0)
}

#[cfg(not(unix))]
fn is_private(path: &std::path::Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_at_colons_that_are_not_escaped() {
        assert_eq!(fields(r"h\:1:*:d\\b:u:pa:ss\:x"), ["h:1", "*", r"d\b", "u", "pa:ss:x"]);
    }
}
