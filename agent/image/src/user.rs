//! Turns the user of an image (`name`, `uid`, `uid:gid`, `name:group`) into numbers by the image's own passwd and
//! group files, as container runtimes do. It never asks the device's user database.

use std::{io, path::PathBuf};

use crate::merged;

/// Longer files are cut: nobody has a megabyte of users in an image.
pub(crate) const ACCOUNT_BYTES: u64 = 1024 * 1024;
pub(crate) const PASSWD: &str = "/etc/passwd";
pub(crate) const GROUP: &str = "/etc/group";

/// Who a container's program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside the container.
    pub gid: u32,
    /// Further groups from the group file; none when the request names a group.
    pub additional_gids: Vec<u32>,
    /// Home folder from the passwd file.
    pub home: Option<String>,
}

/// A user cannot be turned into numbers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// The image does not know the user.
    #[error("the image's /etc/passwd has no user {0:?}; use a number or another user")]
    UnknownUser(String),
    /// The image does not know the group.
    #[error("the image's /etc/group has no group {0:?}; use a number or another group")]
    UnknownGroup(String),
    /// A file of the image cannot be read.
    #[error("reading {path} of the image failed")]
    Read {
        /// The path inside the image.
        path: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Resolves `user` against the image made of `layers` (bottom first). An empty text is user 0. Blocks on the disk.
///
/// # Errors
/// When a name is unknown to the image or its files cannot be read.
pub fn resolve_user(layers: &[PathBuf], user: &str) -> Result<ResolvedUser, UserError> {
    let passwd = file(layers, PASSWD)?;
    let group = file(layers, GROUP)?;
    resolve(user, &passwd, &group)
}

fn file(layers: &[PathBuf], path: &'static str) -> Result<String, UserError> {
    let text =
        merged::read(layers, path, ACCOUNT_BYTES).map_err(|source| UserError::Read { path, source })?;
    Ok(String::from_utf8_lossy(&text.unwrap_or_default()).into_owned())
}

pub(crate) fn resolve(user: &str, passwd: &str, group: &str) -> Result<ResolvedUser, UserError> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // A name wins over a number, as in other runtimes: an account may be called "1000".
    let number: Option<u32> = user.parse().ok().filter(|id| *id != u32::MAX);
    let account = accounts(passwd)
        .find(|account| account.name == user)
        .or_else(|| accounts(passwd).find(|account| Some(account.uid) == number));
    let uid = match (&account, number) {
        (Some(account), _) => account.uid,
        (None, Some(number)) => number,
        (None, None) => return Err(UserError::UnknownUser(user.into())),
    };
    let (gid, additional_gids) = match wanted_group {
        Some(name) => {
            let by_name = groups(group).find(|(group, ..)| *group == name).map(|(_, gid, _)| gid);
            let gid = by_name.or_else(|| name.parse().ok().filter(|id| *id != u32::MAX));
            (gid.ok_or_else(|| UserError::UnknownGroup(name.into()))?, Vec::new())
        }
        None => {
            let gid = account.as_ref().map_or(0, |account| account.gid);
            let name = account.as_ref().map(|account| account.name);
            let member = |members: &str| members.split(',').any(|member| Some(member.trim()) == name);
            let mut more: Vec<u32> =
                groups(group).filter(|(.., m)| member(m)).map(|(_, gid, _)| gid).collect();
            more.sort_unstable();
            more.dedup();
            more.retain(|further| *further != gid);
            (gid, more)
        }
    };
    let home = account.map(|account| account.home.to_owned()).filter(|home| home.starts_with('/'));
    Ok(ResolvedUser { uid, gid, additional_gids, home })
}

/// Lines of passwd(5); malformed ones are passed over.
fn accounts(text: &str) -> impl Iterator<Item = Account<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(Account { name, uid, gid, home })
    })
}

/// Lines of group(5): name, number, members.
fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:100:101::/srv/app:/bin/sh\n1000:x:7:8::rel:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\napp:x:101:app\nvideo:x:27: app\n";

    #[test]
    fn every_form_of_user() {
        let of =
            |user: &str| resolve(user, PASSWD, GROUP).map(|u| (u.uid, u.gid, u.additional_gids)).unwrap();
        assert_eq!(of(""), (0, 0, vec![10]));
        assert_eq!(of("app"), (100, 101, vec![10, 27]));
        assert_eq!(of("100"), (100, 101, vec![10, 27]));
        assert_eq!(of("app:wheel"), (100, 10, vec![]));
        assert_eq!(of("app:5"), (100, 5, vec![]));
        assert_eq!(of("4242"), (4242, 0, vec![]));
        assert_eq!(of("4242:4343"), (4242, 4343, vec![]));
        assert_eq!(of(":27"), (0, 27, vec![]));
        assert_eq!(of("1000"), (7, 8, vec![]));
        assert_eq!(resolve("app", PASSWD, GROUP).unwrap().home.as_deref(), Some("/srv/app"));
        assert_eq!(resolve("1000", PASSWD, GROUP).unwrap().home, None);
        for wrong in ["nobody", "app:none", "-1", "4294967295", "0:4294967295", "99999999999"] {
            assert!(resolve(wrong, PASSWD, GROUP).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_image_without_files_knows_numbers_only() {
        assert_eq!(resolve("5", "", "").unwrap().uid, 5);
        assert!(matches!(resolve("app", "", ""), Err(UserError::UnknownUser(_))));
        assert!(matches!(resolve("5:app", "", ""), Err(UserError::UnknownGroup(_))));
    }
}
