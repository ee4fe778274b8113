//! Builds the fuzz targets with coverage and runs each for a bounded time over its corpus.
//!
//! `sosna-protocol-fuzz [--seconds 20] [--runs 10000000] [--target-dir DIR] [--grow]`, seconds and runs for each
//! target. Exits with 1 when a target crashed, and says how to see that crash again. It never changes the
//! committed corpus, unless `--grow` asks to merge into it what reached new code.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use sosna_protocol_fuzz::TARGETS;

/// What `cargo fuzz --sanitizer none` passes: libFuzzer's counters on every edge, without a sanitizer, which
/// would need a nightly compiler.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Ccodegen-units=1 --cfg fuzzing";

struct Options {
    seconds: u32,
    runs: u64,
    target_dir: PathBuf,
    grow: bool,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the fuzz targets could not be run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, Box<dyn Error>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).ok_or("no workspace above")?;
    let target_dir = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let mut options =
        Options { seconds: 20, runs: 10_000_000, target_dir: target_dir.join("fuzz"), grow: false };
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => options.seconds = value()?.parse()?,
            "--runs" => options.runs = value()?.parse()?,
            "--target-dir" => options.target_dir = value()?.into(),
            "--grow" => options.grow = true,
            other => {
                return Err(format!(
                    "unknown argument {other}; there are --seconds, --runs, --target-dir, --grow"
                )
                .into());
            }
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The platform is named, so that the flags do not reach build scripts.
    let platform = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut build = Command::new(cargo);
    build
        .args(["build", "--features", "libfuzzer", "--target", &platform])
        // By name: this runner does not link libFuzzer, so it could not be built with these flags.
        .args(TARGETS.iter().map(|(name, _)| format!("--bin=fuzz-{name}")))
        .arg("--manifest-path")
        .arg(here.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&options.target_dir)
        .env("RUSTFLAGS", COVERAGE)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // The dev profile keeps its assertions and overflow checks; only speed is added.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "3");
    if !build.status()?.success() {
        return Err("the targets do not build".into());
    }
    let mut all_well = true;
    for (name, _) in TARGETS {
        let binary = options.target_dir.join(&platform).join("debug").join(format!("fuzz-{name}"));
        let committed = here.join("corpus").join(name);
        let artifacts = options.target_dir.join("artifacts").join(name);
        fs::create_dir_all(&artifacts)?;
        // New inputs go to the first folder: one that nobody keeps.
        let found = tempfile::tempdir()?;
        let status = Command::new(&binary)
            .arg(found.path())
            .arg(&committed)
            .arg(format!("-max_total_time={}", options.seconds))
            .arg(format!("-runs={}", options.runs))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args([
                "-max_len=4096",
                "-timeout=10",
                "-rss_limit_mb=1024",
                "-print_final_stats=1",
                "-verbosity=0",
            ])
            .status()?;
        if status.success() {
            println!("{name}: no crash");
        } else {
            all_well = false;
            println!(
                "{name}: CRASHED ({status}); see it again with {} {}/<file>",
                binary.display(),
                artifacts.display()
            );
        }
        if options.grow {
            // New edges only: how often an edge was taken would fill the corpus with hundreds of files.
            let merged = Command::new(&binary)
                .args(["-set_cover_merge=1", "-use_counters=0", "-verbosity=0"])
                .arg(&committed)
                .arg(found.path())
                .status()?;
            if !merged.success() {
                return Err(format!("{name}: the corpus could not be merged: {merged}").into());
            }
        }
    }
    Ok(all_well)
}
