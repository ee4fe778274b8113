//! Simulated devices for a hub: see the library.

use std::{error::Error, process::ExitCode, time::Duration};

use clap::Parser as _;
use sosna::output;
use sosna_host::{report, token::JoinToken};
use sosna_swarm::{Population, Settings, Swarm, args::Cli, show};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The one provider of cryptography in this process; a second installation cannot happen here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sosna-swarm: cannot start: {error}");
            return report::Exit::Failed.into();
        }
    };
    match runtime.block_on(run(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sosna-swarm: {}", report::chain(&*error));
            report::Exit::Failed.into()
        }
    }
}

async fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let mut texts = cli.join.clone();
    for file in &cli.join_file {
        texts.push(std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?);
    }
    let tokens = texts.iter().map(|text| text.parse()).collect::<Result<Vec<JoinToken>, _>>()?;
    let population = Population {
        devices: cli.devices,
        seed: cli.seed,
        arch: cli.arch,
        conducts: cli.cheat.clone(),
        task: cli.task,
        stay: cli.stay.unwrap_or_default(),
        away: cli.away,
        ..Population::default()
    };
    let settings = Settings { verifies: !cli.trusting, ramp: cli.ramp, ..Settings::new(tokens, population) };
    let swarm = Swarm::start(settings)?;
    let bar = output::count_bar("devices online", cli.devices as u64);
    let end = tokio::time::sleep(cli.lasts.unwrap_or(Duration::from_secs(10 * 365 * 86_400)));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = tokio::signal::ctrl_c() => break,
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        let figures = swarm.figures();
        bar.set_position(figures.online);
        let (accepted, shown) = figures
            .accounts
            .values()
            .fold((0, 0), |(accepted, shown), one| (accepted + one.accepted, shown + one.shown));
        let failures: u64 = figures.failures.values().sum();
        bar.set_message(format!("online, {accepted} accepted, {shown} shown, {failures} failures"));
    }
    // The last figures while it lived; the end itself is not one of them.
    let figures = swarm.figures();
    bar.set_message("hang up");
    swarm.end().await;
    bar.finish_and_clear();
    if cli.json {
        output::json(&figures)?
    } else {
        output::data(show::figures(&figures).as_bytes())?
    }
    Ok(())
}
