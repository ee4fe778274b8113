//! Which hub, and as whom: flags, then the environment, then the file that `sosna login` wrote. A token is only
//! ever sent to the hub that it came with, and only where nobody can read it on the way.

use std::{env, fmt, fs, io::Read as _, net::IpAddr, path::Path, path::PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};
use sosna_host::file::{self, Access, FileError};
use sosna_protocol::Hash;

use crate::error::Error;

/// The options that every command has.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// The hub's address; otherwise SOSNA_HUB, or what `sosna login` wrote
    #[arg(long, global = true, value_name = "URL")]
    pub hub: Option<String>,
    /// A file with your token (`-` reads it from standard input); otherwise SOSNA_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The SHA-256 of the public key of the hub's own certificate authority
    #[arg(long, global = true, value_name = "SHA256")]
    pub authority: Option<Hash>,
    /// Send the token without TLS beyond this machine
    #[arg(long, global = true)]
    pub insecure_http: bool,
}

/// A secret that does not print itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

/// A hub and who we are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Its address, without a slash at the end.
    pub hub: String,
    /// Our token there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// The authority that it must prove, in hexadecimal; where absent, those that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Whether plain HTTP beyond this machine was allowed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_http: bool,
}

// === impl Token ===

impl Token {
    fn new(text: &str, from: impl FnOnce() -> String) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Token(from()));
        }
        Ok(Self(text.to_owned()))
    }

    fn from_file(path: &Path) -> Result<Self, Error> {
        let text = if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            fs::read_to_string(path)
        };
        let text = text.map_err(FileError::of("read", path))?;
        Self::new(&text, || path.display().to_string())
    }

    /// The secret itself, for the header that carries it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

// === impl Credentials ===

impl Credentials {
    /// The hub and the token in force.
    ///
    /// # Errors
    /// [`Error`] where there is no hub, or a file cannot be used, or the token would be sent in the open.
    pub fn find(args: &ConnectArgs) -> Result<Self, Error> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let kept = match kept_path() {
            Some(path) => Self::load(&path)?,
            None => None,
        };
        Self::combine(args, variable("SOSNA_HUB"), variable("SOSNA_TOKEN"), kept)
    }

    fn combine(
        args: &ConnectArgs,
        hub: Option<String>,
        token: Option<String>,
        kept: Option<Self>,
    ) -> Result<Self, Error> {
        let named = args.hub.clone().or(hub).map(|text| base(&text)).transpose()?;
        // What was kept belongs to the hub that it was kept for, and to no other.
        let kept = kept.filter(|kept| named.as_ref().is_none_or(|named| *named == kept.hub));
        let hub = named.or_else(|| kept.as_ref().map(|kept| kept.hub.clone())).ok_or(Error::NoHub)?;
        let token = match (&args.token_file, token) {
            (Some(path), _) => Some(Token::from_file(path)?),
            (None, Some(text)) => Some(Token::new(&text, || "SOSNA_TOKEN".to_owned())?),
            (None, None) => kept.as_ref().and_then(|kept| kept.token.clone()),
        };
        let authority = args
            .authority
            .map(|hash| hash.to_string())
            .or_else(|| kept.as_ref().and_then(|kept| kept.authority.clone()));
        let insecure_http = args.insecure_http || kept.is_some_and(|kept| kept.insecure_http);
        let found = Self { hub, token, authority, insecure_http };
        if found.is_open() && !found.insecure_http {
            return Err(Error::Plain(found.hub));
        }
        Ok(found)
    }

    /// Whether others could read what is sent.
    fn is_open(&self) -> bool {
        let Some(rest) = self.hub.strip_prefix("http://") else { return false };
        let host = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, _)) => host,
            None => rest.split([':', '/']).next().unwrap_or_default(),
        };
        host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The pinned authority.
    ///
    /// # Errors
    /// [`Error::Usage`] where the file holds something else.
    pub fn pin(&self) -> Result<Option<Hash>, Error> {
        let wrong =
            |_| Error::Usage("the kept authority is not a SHA-256; run `sosna login` again".to_owned());
        self.authority.as_deref().map(|text| text.parse().map_err(wrong)).transpose()
    }

    fn load(path: &Path) -> Result<Option<Self>, Error> {
        let Some(bytes) = file::read_if_there(path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let wrong = |source| Error::Credentials { path: path.display().to_string(), source };
        toml::from_str(&text).map(Some).map_err(wrong)
    }

    /// Keeps them for the commands to come, readable by nobody else, and says where.
    ///
    /// # Errors
    /// [`Error`].
    pub fn keep(&self) -> Result<PathBuf, Error> {
        let path = kept_path().ok_or(Error::NoHome("there is no place for the token"))?;
        if let Some(folder) = path.parent() {
            file::create_folder(folder)?;
        }
        let text = toml::to_string(self).expect("texts and a truth value are TOML");
        file::write(&path, text.as_bytes(), Access::Private)?;
        Ok(path)
    }
}

/// The folder of what is kept for a person: `~/.config/sosna`.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|config| config.join("sosna"))
}

fn kept_path() -> Option<PathBuf> {
    Some(folder()?.join("credentials.toml"))
}

/// A hub's address without what does not belong to it.
fn base(text: &str) -> Result<String, Error> {
    let wrong = || Error::Address(text.to_owned());
    let url = reqwest::Url::parse(text.trim()).map_err(|_| wrong())?;
    let plain = url.username().is_empty() && url.password().is_none();
    let bare = url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain || !bare {
        return Err(wrong());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn kept() -> Credentials {
        Credentials {
            hub: "https://hub.test:8443".to_owned(),
            token: Some(Token("kept".to_owned())),
            authority: Some("aa".repeat(32)),
            insecure_http: false,
        }
    }

    fn args(hub: Option<&str>) -> ConnectArgs {
        ConnectArgs { hub: hub.map(str::to_owned), ..ConnectArgs::default() }
    }

    #[test]
    fn a_kept_token_goes_to_its_own_hub_only() {
        let found = Credentials::combine(&args(None), None, None, Some(kept())).unwrap();
        assert_eq!(found, kept());
        let same =
            Credentials::combine(&args(Some("https://hub.test:8443/")), None, None, Some(kept())).unwrap();
        assert_eq!(same, kept());
        let other = Credentials::combine(&args(Some("https://evil.test")), None, None, Some(kept())).unwrap();
        assert_eq!((other.token, other.authority), (None, None));
    }

    #[test]
    fn flags_come_before_the_environment_and_that_before_the_file() {
        let environment = || (Some("https://env.test".to_owned()), Some("env".to_owned()));
        let (hub, token) = environment();
        let found = Credentials::combine(&args(None), hub, token, Some(kept())).unwrap();
        assert_eq!((found.hub.as_str(), found.token.unwrap().reveal()), ("https://env.test", "env"));
        let (hub, token) = environment();
        let found = Credentials::combine(&args(Some("https://flag.test")), hub, token, None).unwrap();
        assert_eq!(found.hub, "https://flag.test");
        assert!(matches!(Credentials::combine(&args(None), None, None, None), Err(Error::NoHub)));
    }

    #[test]
    fn tokens_do_not_travel_in_the_open() {
        for hub in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost", "https://hub.test"] {
            assert!(Credentials::combine(&args(Some(hub)), None, None, None).is_ok(), "{hub}");
        }
        for hub in
            ["http://hub.test", "http://10.0.0.1:80", "http://127.0.0.1.evil.test", "http://localhost.evil"]
        {
            let error = Credentials::combine(&args(Some(hub)), None, None, None).unwrap_err();
            assert!(matches!(error, Error::Plain(_)), "{hub}");
            let allowed = ConnectArgs { insecure_http: true, ..args(Some(hub)) };
            assert!(Credentials::combine(&allowed, None, None, None).is_ok(), "{hub}");
        }
        for hub in ["hub.test", "ftp://hub.test", "http://me:secret@hub.test", "https://hub.test/?a=b", ""] {
            assert!(matches!(base(hub), Err(Error::Address(_))), "{hub}");
        }
    }

    #[test]
    fn tokens_do_not_print_themselves() {
        assert!(!format!("{:?}", kept()).contains("kept"));
        assert!(Token::new(" \n", || "x".to_owned()).is_err());
        assert!(Token::new("a b", || "x".to_owned()).is_err());
        assert_eq!(Token::new("abc\n", String::new).unwrap().reveal(), "abc");
    }
}
