//! Reading an export, record by record, however large it is.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use quick_xml::{
    Reader,
    events::{BytesRef, Event},
};
use sosna_api::boinc::Credit;
use sosna_host::file::FileError;

use super::BoincError;
use crate::output;

/// A record's fields that were asked for.
type Fields = BTreeMap<&'static str, String>;

/// A user of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) id: u64,
    pub(super) credit: Credit,
    /// What the user says is theirs on the web.
    pub(super) url: String,
    pub(super) team: Option<u64>,
}

/// A computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) id: u64,
    /// Whose; `None` where the owner does not show it.
    pub(super) user: Option<u64>,
    pub(super) credit: Credit,
    pub(super) created_s: u64,
}

/// All users of an export.
pub(super) fn users(path: &Path, mut each: impl FnMut(User)) -> Result<(), BoincError> {
    records(path, "users", "user", &["id", "total_credit", "url", "teamid"], |record| {
        each(User {
            id: record.needed("id")?,
            credit: record.needed("total_credit")?,
            url: record.fields.get("url").cloned().unwrap_or_default(),
            team: record.maybe("teamid")?,
        });
        Ok(())
    })
}

/// All computers of an export.
pub(super) fn hosts(path: &Path, mut each: impl FnMut(Host)) -> Result<(), BoincError> {
    records(path, "hosts", "host", &["id", "userid", "total_credit", "create_time"], |record| {
        each(Host {
            id: record.needed("id")?,
            user: record.maybe("userid")?,
            credit: record.needed("total_credit")?,
            // Without detail there is neither this nor an owner.
            created_s: record.maybe("create_time")?.unwrap_or_default(),
        });
        Ok(())
    })
}

struct Record<'a> {
    path: &'a Path,
    name: &'static str,
    fields: Fields,
}

impl Record<'_> {
    fn needed<T: std::str::FromStr>(&self, field: &'static str) -> Result<T, BoincError> {
        let text = self.fields.get(field).map_or("", |text| text.trim());
        text.parse().map_err(|_| self.unsound(field, text))
    }

    fn maybe<T: std::str::FromStr>(&self, field: &'static str) -> Result<Option<T>, BoincError> {
        match self.fields.get(field).map(|text| text.trim()) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| self.unsound(field, text)),
        }
    }

    fn unsound(&self, field: &'static str, text: &str) -> BoincError {
        BoincError::Field {
            path: self.path.to_owned(),
            record: self.name,
            id: self.fields.get("id").cloned().unwrap_or_else(|| "without a number".to_owned()),
            field,
            text: text.chars().take(100).collect(),
        }
    }
}

/// Everything that is not ASCII becomes a question mark: no field that counts has any, and what projects write beside them
/// is in whatever encoding their database has.
struct Ascii<R>(R);

impl<R: Read> Read for Ascii<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        for byte in buffer.iter_mut().take(length).filter(|byte| !byte.is_ascii()) {
            *byte = b'?';
        }
        Ok(length)
    }
}

fn open(path: &Path) -> Result<Box<dyn Read>, BoincError> {
    let failed = || FileError::of("read", path);
    let file = File::open(path).map_err(failed())?;
    let size = file.metadata().map_err(failed())?.len();
    let bar = output::byte_bar("reading the export", size);
    let mut file = BufReader::new(bar.wrap_read(file));
    let is_packed = file.fill_buf().map_err(failed())?.starts_with(&[0x1f, 0x8b]);
    Ok(if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn records(
    path: &Path,
    table: &'static str,
    name: &'static str,
    wanted: &[&'static str],
    mut each: impl FnMut(&Record<'_>) -> Result<(), BoincError>,
) -> Result<(), BoincError> {
    let mut reader = Reader::from_reader(BufReader::with_capacity(1 << 16, Ascii(open(path)?)));
    let mut buffer = Vec::new();
    let mut depth = 0_usize;
    let mut record = Record { path, name, fields: Fields::new() };
    let mut field: Option<(&'static str, String)> = None;
    let mut is_whole = false;
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer);
        let event = event.map_err(|source| broken(path, reader.error_position(), source))?;
        match event {
            Event::Start(tag) => {
                depth += 1;
                let tag_name = tag.name();
                let tag_name = tag_name.as_ref();
                match depth {
                    1 if tag_name != table => {
                        return Err(BoincError::Table {
                            path: path.to_owned(),
                            found: tag_name.chars().take(40).collect(),
                            wanted: table,
                        });
                    }
                    2 => record.fields.clear(),
                    3 => {
                        field = wanted.iter().find(|one| **one == tag_name).map(|one| (*one, String::new()));
                    }
                    _ => {}
                }
            }
            Event::Text(text) if depth == 3 => add(&mut field, &text),
            Event::CData(text) if depth == 3 => add(&mut field, &text),
            Event::GeneralRef(reference) if depth == 3 => add(&mut field, &resolve(&reference)),
            Event::End(tag) => {
                match depth {
                    3 => {
                        // The first of a name: what a record repeats is not the project's own.
                        if let Some((name, text)) = field.take() {
                            record.fields.entry(name).or_insert(text);
                        }
                    }
                    2 if tag.name().as_ref() == name => each(&record)?,
                    1 => is_whole = true,
                    _ => {}
                }
                depth = depth.saturating_sub(1);
            }
            Event::Eof if is_whole => return Ok(()),
            Event::Eof => {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends before its end");
                return Err(broken(path, reader.buffer_position(), cut.into()));
            }
            _ => {}
        }
    }
}

fn broken(path: &Path, at: u64, source: quick_xml::Error) -> BoincError {
    BoincError::Xml { path: path.to_owned(), at, source }
}

fn add(field: &mut Option<(&'static str, String)>, text: &str) {
    if let Some((_, known)) = field {
        known.push_str(text);
    }
}

/// What a reference stands for; nothing where it stands for nothing.
fn resolve(reference: &BytesRef<'_>) -> String {
    match &**reference {
        "lt" => "<".to_owned(),
        "gt" => ">".to_owned(),
        "amp" => "&".to_owned(),
        "quot" => "\"".to_owned(),
        "apos" => "'".to_owned(),
        _ => reference.resolve_char_ref().ok().flatten().map(String::from).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Host>, BoincError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.xml");
        fs::write(&path, bytes).unwrap();
        let mut all = Vec::new();
        hosts(&path, |host| all.push(host))?;
        Ok(all)
    }

    const HOST: &str =
        "<id>7</id><userid>3</userid><total_credit>1.5</total_credit><create_time>9</create_time>";

    #[test]
    fn what_stands_beside_a_field_is_not_it() {
        let text = format!(
            "<hosts><host>{HOST}<os_name>\u{fc}&#1;&lt;id>9&lt;/id></os_name><misc><![CDATA[<id>8</id> & ]]></misc>\
             <coprocs><id>1</id></coprocs><id>5</id></host></hosts>"
        );
        let mut bytes = text.into_bytes();
        let host = Host { id: 7, user: Some(3), credit: Credit(1_500_000), created_s: 9 };
        assert_eq!(read(&bytes).unwrap(), std::slice::from_ref(&host));
        // Not UTF-8, as some projects' are.
        for byte in bytes.iter_mut().filter(|byte| !byte.is_ascii()) {
            *byte = 0xe4;
        }
        assert_eq!(read(&bytes).unwrap(), [host]);
    }

    #[test]
    fn what_is_no_export_is_told() {
        for (text, said) in [
            ("", "it ends before its end"),
            ("<hosts><host><id>7</id>", "it ends before its end"),
            (&format!("<hosts><host>{HOST}</host>"), "it ends before its end"),
            ("<html><p>not found</p></html>", "an export of `html`, and one of `hosts` is wanted"),
            ("<users></users>", "an export of `users`"),
            ("<hosts><host><id>x</id></host></hosts>", "host x has no sound `id`: `x`"),
            (
                "<hosts><host><total_credit>1</total_credit></host></hosts>",
                "host without a number has no sound `id`",
            ),
            (
                "<hosts><host><id>7</id><total_credit>-1.0</total_credit></host></hosts>",
                "`total_credit`: `-1.0`",
            ),
            ("<hosts><host><id>7</user></hosts>", "cannot be read any further than byte"),
        ] {
            let error = sosna_host::report::chain(&read(text.as_bytes()).unwrap_err());
            assert!(error.contains(said), "{text}: {error}");
        }
        let mut cut = Vec::new();
        let whole = flate2::read::GzEncoder::new(b"<hosts></hosts>".as_slice(), flate2::Compression::fast())
            .read_to_end(&mut cut);
        assert!(whole.is_ok() && read(&cut).unwrap().is_empty());
        cut.truncate(cut.len() - 9);
        assert!(matches!(read(&cut), Err(BoincError::Xml { .. })));
    }
}
