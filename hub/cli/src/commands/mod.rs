//! What each command does, one file a subject.

mod boinc;
mod deposits;
mod devices;
mod hubs;
mod jobs;
mod ledger;
mod login;
mod owner;
mod payouts;
mod run;
mod wallet;

use std::process::ExitCode;

use crate::{
    args::{Cli, Command},
    client::Hub,
    connect::{ConnectArgs, Credentials},
    error::Error,
};

/// Does what the command line says.
///
/// # Errors
/// [`Error`], which knows its exit code.
pub async fn run(cli: Cli) -> Result<ExitCode, Error> {
    let connect = &cli.connect;
    let done = |()| ExitCode::SUCCESS;
    match cli.command {
        Command::Login(args) => login::login(connect, &args).await.map(done),
        Command::Run(args) => run::run(connect, *args).await,
        Command::Submit(args) => run::submit(connect, &args).await,
        Command::Jobs(args) => jobs::list(&hub(connect)?, &args).await.map(done),
        Command::Job(args) => jobs::show(&hub(connect)?, &args).await.map(done),
        Command::Logs(args) => jobs::logs(&hub(connect)?, &args).await.map(done),
        Command::Results(args) => jobs::results(&hub(connect)?, &args).await.map(done),
        Command::Cancel(args) => jobs::cancel(&hub(connect)?, &args).await.map(done),
        Command::Devices(args) => devices::list(&hub(connect)?, &args).await.map(done),
        Command::Device(args) => devices::device(&hub(connect)?, args).await.map(done),
        Command::Owner { command } => owner::owner(connect, command).await.map(done),
        Command::Ledger(args) => ledger::ledger(&hub(connect)?, args).await.map(done),
        Command::Deposits(args) => deposits::deposits(connect, args).await.map(done),
        Command::Wallet(args) => wallet::wallet(&hub(connect)?, &args).await.map(done),
        Command::Payouts(args) => payouts::payouts(connect, args).await.map(done),
        Command::Boinc(args) => boinc::boinc(&hub(connect)?, args).await.map(done),
        Command::Hubs { command } => hubs::hubs(command).await.map(done),
    }
}

fn hub(connect: &ConnectArgs) -> Result<Hub, Error> {
    Hub::new(&Credentials::find(connect)?)
}
