//! A job in a TOML file: the options of `sosna run` as keys.

use std::{collections::BTreeMap, error::Error as StdError, fs, path::Path, path::PathBuf, time::Duration};

use serde::Deserialize;
use sosna_api::job::{ImageSpec, Needs, NewJob, Verification};
use sosna_api::text::{AmountText, ArchText, NetworkText};
use sosna_host::file::FileError;
use sosna_protocol::message::work::Network;

use super::{Draft, DraftError};
use crate::{args::defaults, image::ImageArg, quantity};

/// What the file may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFile {
    name: Option<String>,
    image: String,
    #[serde(default)]
    entrypoint: Vec<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    working_dir: Option<String>,
    tasks: Option<u32>,
    verify: Option<String>,
    cpu: Option<Quantity>,
    memory: Option<Quantity>,
    disk: Option<Quantity>,
    inodes: Option<u64>,
    pids: Option<u32>,
    timeout: Option<String>,
    log: Option<Quantity>,
    network: Option<String>,
    #[serde(default)]
    inputs: Vec<String>,
    #[serde(default)]
    outputs: Vec<String>,
    stdout_counts: Option<bool>,
    arch: Option<String>,
    region: Option<String>,
    exact_class: Option<bool>,
    max_price: Option<String>,
}

/// `"512M"`, or a number as it is.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Quantity {
    Text(String),
    Whole(u64),
    // Through its shortest decimal form, which is what was written: 0.5 is "0.5".
    Part(f64),
}

impl Quantity {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Whole(number) => number.to_string(),
            Self::Part(number) => number.to_string(),
        }
    }
}

/// Reads a job's file. Paths in it are understood from the folder that it lies in.
///
/// # Errors
/// [`DraftError`].
pub fn read(path: &Path) -> Result<Draft, DraftError> {
    let text = fs::read_to_string(path).map_err(FileError::of("read", path))?;
    let file: JobFile = toml::from_str(&text)
        .map_err(|source| DraftError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    draft(file, path)
}

fn draft(file: JobFile, path: &Path) -> Result<Draft, DraftError> {
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    let at = At(path);
    let quantity = |key, given: Option<&Quantity>, default: u64| match given {
        Some(given) => at.value(key, quantity::size(&given.text())),
        None => Ok(default),
    };
    let cpu_millis = match &file.cpu {
        Some(cpu) => at.value("cpu", quantity::cpu_millis(&cpu.text()))?,
        None => defaults::CPU_MILLIS,
    };
    let timeout = match &file.timeout {
        Some(text) => at.value("timeout", quantity::duration(text))?,
        None => Duration::from_millis(defaults::TIMEOUT_MS),
    };
    let arch = at.parsed::<ArchText>("arch", file.arch.as_deref())?;
    let image: ImageArg = at.value("image", file.image.parse())?;
    let mut inputs = Vec::new();
    for text in &file.inputs {
        let mut input: super::InputArg = text.parse()?;
        input.source = folder.join(input.source);
        inputs.push(input);
    }
    let spec = NewJob {
        name: file.name,
        image: ImageSpec::Reference(image.to_string()),
        entrypoint: file.entrypoint,
        command: file.command,
        env: file.env,
        working_dir: file.working_dir,
        tasks: file.tasks.unwrap_or(1),
        resources: Needs {
            cpu_millis,
            memory: quantity("memory", file.memory.as_ref(), defaults::MEMORY)?,
            disk: quantity("disk", file.disk.as_ref(), defaults::DISK)?,
            inodes: file.inodes,
            pids: file.pids,
        },
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        log_bytes: file.log.map(|log| at.value("log", quantity::size(&log.text()))).transpose()?,
        network: at
            .parsed::<NetworkText>("network", file.network.as_deref())?
            .unwrap_or(Network::None.into()),
        inputs: Vec::new(),
        outputs: file.outputs.iter().map(|text| super::output(text)).collect::<Result<_, _>>()?,
        stdout_counts: file.stdout_counts,
        verification: at.parsed::<Verification>("verify", file.verify.as_deref())?.unwrap_or_default(),
        arch,
        region: file.region,
        exact_class: file.exact_class,
        max_price: at.parsed::<AmountText>("max_price", file.max_price.as_deref())?,
    };
    Ok(Draft { image: image.relative_to(&folder), arch: arch.map(|arch| arch.0), inputs, spec })
}

/// Says where a value stands that cannot be used.
struct At<'a>(&'a Path);

impl At<'_> {
    fn value<T, E: StdError + Send + Sync + 'static>(
        &self,
        key: &'static str,
        value: Result<T, E>,
    ) -> Result<T, DraftError> {
        value.map_err(|error| DraftError::Value { path: self.0.to_owned(), key, source: Box::new(error) })
    }

    fn parsed<T: std::str::FromStr<Err: StdError + Send + Sync + 'static>>(
        &self,
        key: &'static str,
        text: Option<&str>,
    ) -> Result<Option<T>, DraftError> {
        text.map(|text| self.value(key, text.parse())).transpose()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn parse(text: &str) -> Result<Draft, DraftError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.toml");
        fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn the_example_of_the_help_is_a_job() {
        let draft = parse(crate::args::JOB_FILE).unwrap();
        assert_eq!(draft.spec.tasks, 12);
        assert_eq!(draft.spec.verification, Verification::Replicate(2));
        assert_eq!(draft.spec.resources.memory, 512 << 20);
        assert_eq!(draft.spec.max_price.unwrap().to_string(), "1.5");
        assert_eq!(draft.inputs[0].destination, "/in/scene.pov");
        assert!(draft.inputs[0].source.is_absolute(), "understood from the file's folder");
    }

    #[test]
    fn the_shortest_file_has_the_defaults_of_the_command_line() {
        let draft = parse("image = \"registry.test/a:1\"\ncpu = 0.5\nmemory = 1000").unwrap();
        assert_eq!(draft.image, ImageArg::Reference("registry.test/a:1".to_owned()));
        assert_eq!((draft.spec.resources.cpu_millis, draft.spec.resources.memory), (500, 1000));
        assert_eq!(draft.spec.timeout_ms, defaults::TIMEOUT_MS);
    }

    #[test]
    fn mistakes_name_their_key() {
        let image = "image = \"registry.test/a:1\"\n";
        for (text, part) in [
            ("memory = \"12X\"", "`memory`"),
            ("cpu = 0", "`cpu`"),
            ("timeout = \"90\"", "`timeout`"),
            ("arch = \"x86\"", "`arch`"),
            ("verify = \"twice\"", "`verify`"),
            ("max_price = \"1e3\"", "`max_price`"),
            ("network = \"lan\"", "`network`"),
            ("outputs = [\"out\"]", "`out`"),
            ("inputs = [\"x\"]", "`x`"),
        ] {
            let error = parse(&format!("{image}{text}")).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.exit(), sosna_host::report::Exit::Usage);
        }
        let unknown = parse(&format!("{image}taks = 3")).unwrap_err();
        assert!(sosna_host::report::chain(&unknown).contains("taks"));
        assert_eq!(
            read(Path::new("/nowhere/job.toml")).unwrap_err().exit(),
            sosna_host::report::Exit::NotFound
        );
    }
}
