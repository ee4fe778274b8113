//! What the program's commands do.

use std::{collections::BTreeMap, io::Write as _, path::Path, time::Duration};

use sosna_api::{
    Code, Problem,
    owner::{JoinTokenCreated, NewJoinToken},
    route,
};
use sosna_host::{
    config::{self, ConfigError},
    file::FileError,
    report::Exit,
};
use sosna_hub::{
    HubConfig, HubError, admin,
    backup::{self, BackupError},
    serve::{self, Running, ServeError},
};
use sosna_store::{Role, Store, StoreError};

use super::{Cli, Command, User};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{0}` is no role; there are admin, operator, buyer and owner")]
    Role(String),
    #[error("there is no hub in {0}; start one with `sosna-hub serve`, or name its folder with --data")]
    NoHub(String),
    #[error("the hub in {0} is not running; start it with `sosna-hub serve`")]
    NotRunning(String),
    #[error("the hub does not answer at {address}; is it still running?")]
    NoAnswer {
        address: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{0}")]
    Problem(String, Code),
    #[error("the standard output is closed")]
    Output(#[from] std::io::Error),
}

impl CommandError {
    /// The exit code that goes with it.
    pub(crate) const fn exit(error: &Self) -> Exit {
        match error {
            Self::Config(_) | Self::Role(_) => Exit::Usage,
            Self::NoHub(_) => Exit::NotFound,
            Self::NotRunning(_) | Self::NoAnswer { .. } => Exit::NoAnswer,
            Self::Problem(_, code) | Self::Hub(HubError::Refused { code, .. }) => match code {
                Code::NotFound => Exit::NotFound,
                Code::Invalid => Exit::Usage,
                Code::Forbidden | Code::Unauthenticated | Code::Conflict => Exit::Refused,
                _ => Exit::Failed,
            },
            _ => Exit::Failed,
        }
    }
}

pub(crate) async fn run(cli: Cli) -> Result<(), CommandError> {
    let mut flags = Vec::new();
    if let Some(data) = &cli.place.data {
        flags.push(("data", data.display().to_string()));
    }
    if let Command::Serve { listen, public_address } = &cli.command {
        flags.extend(listen.clone().map(|value| ("listen", value)));
        flags.extend(public_address.clone().map(|value| ("public_address", value)));
    }
    let loaded = config::load::<HubConfig>(cli.place.config.as_deref(), std::env::vars(), flags)?;
    let mut out = std::io::stdout().lock();
    if cli.place.print_config {
        return Ok(write!(out, "{}", loaded.print())?);
    }
    drop(out);
    let config = loaded.value;
    match cli.command {
        Command::Serve { .. } => serve(config).await,
        Command::Token { uses, ttl, label } => token(&config, uses, ttl, label).await,
        Command::User(command) => user(&config, command).await,
        Command::Backup { file } => {
            let bytes = backup::backup(Path::new(&config.data), &file).await?;
            eprintln!(
                "{} bytes in {}; keep it as safe as the hub's keys, which are in it",
                bytes,
                file.display()
            );
            Ok(())
        }
        Command::Restore { file } => {
            let epoch = backup::restore(&file, Path::new(&config.data)).await?;
            eprintln!(
                "restored into {}, epoch {epoch}; devices will show what they hold when they greet",
                config.data
            );
            Ok(())
        }
    }
}

async fn serve(config: HubConfig) -> Result<(), CommandError> {
    sosna_host::telemetry::start("SOSNA_HUB_LOG", config.log_json);
    let stop = stop_signal()?;
    let data = config.data.clone();
    let is_local = config.listen.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let is_unsaid = config.listen.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
        && config.public_address.is_empty();
    let serving = serve::start(config).await?;
    let token = admin::create_join_token(&serving.hub, (1, 86_400), BTreeMap::new(), None, None).await?;
    if let Some(addresses) = serving.hub.addresses.get() {
        let mut out = std::io::stdout().lock();
        writeln!(out, "hub      {}", serving.hub.address().checksummed())?;
        writeln!(out, "web      {}", addresses.http)?;
        if let Some(running) = Running::read(Path::new(&data))?
            && running.http != addresses.http
        {
            writeln!(out, "local    {}, from this machine", running.http)?;
        }
        writeln!(out, "token    {}", serve::admin_token_path(Path::new(&data)).display())?;
        if let Some(token) = token.token {
            writeln!(out, "join     sosna-agent run --join {token}")?;
        }
        if is_local {
            writeln!(
                out,
                "note     only this machine can reach the hub; for devices elsewhere: --listen 0.0.0.0 --public-address HOST"
            )?;
        } else if is_unsaid {
            writeln!(
                out,
                "note     devices cannot reach 0.0.0.0; say under which name they can with --public-address HOST"
            )?;
        }
        out.flush()?;
    }
    stop.await;
    tracing::info!("stopping");
    serving.stop().await;
    Ok(())
}

fn stop_signal() -> Result<impl Future<Output = ()>, std::io::Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Asks the running hub: it knows its addresses and holds the owner's key.
async fn token(
    config: &HubConfig,
    uses: u32,
    ttl: Duration,
    labels: Vec<(String, String)>,
) -> Result<(), CommandError> {
    let data = Path::new(&config.data);
    let running = Running::read(data)?.ok_or_else(|| CommandError::NotRunning(config.data.clone()))?;
    let token = std::fs::read_to_string(serve::admin_token_path(data))
        .map_err(FileError::of("read", &serve::admin_token_path(data)))?;
    let request =
        NewJoinToken { uses, ttl_s: ttl.as_secs(), labels: labels.into_iter().collect(), delegation: None };
    let no_answer = |source| CommandError::NoAnswer { address: running.http.clone(), source };
    let client = client(data).map_err(no_answer)?;
    let url = format!("{}{}", running.http, route::JOIN_TOKENS);
    let answer = client.post(url).bearer_auth(token.trim()).json(&request).send().await.map_err(no_answer)?;
    if !answer.status().is_success() {
        let problem: Problem = answer.json().await.map_err(no_answer)?;
        return Err(CommandError::Problem(format!("{}: {}", problem.title, problem.detail), problem.code));
    }
    let created: JoinTokenCreated = answer.json().await.map_err(no_answer)?;
    writeln!(std::io::stdout().lock(), "{}", created.token.unwrap_or_default())?;
    Ok(())
}

/// A client that knows the hub in a folder by its own authority.
fn client(data: &Path) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder().timeout(Duration::from_secs(30));
    if let Ok(authority) = sosna_broker::CertificateAuthority::open(data.join("authority")) {
        let pin = sosna_host::tls::Pin::Authorities(vec![authority.certificate().clone()]);
        let clock = Some(sosna_host::clock::SystemClock::shared());
        if let Ok(tls) = sosna_host::tls::client(pin, None, clock) {
            builder = builder.tls_backend_preconfigured(tls);
        }
    }
    builder.build()
}

async fn user(config: &HubConfig, command: User) -> Result<(), CommandError> {
    let path = Path::new(&config.data).join("hub.sqlite");
    if !path.is_file() {
        return Err(CommandError::NoHub(config.data.clone()));
    }
    let store = Store::open(&path).await?;
    let mut out = std::io::stdout().lock();
    match command {
        User::Add { name, role } => {
            let role = Role::from_word(&role).ok_or(CommandError::Role(role))?;
            let now_ms = sosna_host::clock::SystemClock::shared().now_ms();
            let access = admin::add_user(&store, &name, role, now_ms).await?;
            writeln!(out, "{}", access.token)?;
        }
        User::TokenFor { name } => {
            let access = admin::renew_token(&store, &name).await?;
            writeln!(out, "{}", access.token)?;
        }
        User::Remove { name } => admin::remove_user(&store, &name).await?,
        User::List { json } => {
            let users = store.read(|tx| Box::pin(async move { tx.users().await })).await?;
            if json {
                let users: Vec<_> = users
                    .iter()
                    .map(|user| {
                        serde_json::json!({
                            "name": user.name, "role": user.role.word(), "created_ms": user.created_ms
                        })
                    })
                    .collect();
                writeln!(out, "{}", serde_json::Value::Array(users))?;
            } else {
                let width = users.iter().map(|user| user.name.len()).max().unwrap_or(4).max(4);
                writeln!(out, "{:width$}  ROLE", "NAME")?;
                for user in users {
                    writeln!(out, "{:width$}  {}", user.name, user.role.word())?;
                }
            }
        }
    }
    Ok(())
}

/// Reads `90s`, `5m`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 90s, 5m, 24h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// Reads `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("`{text}` is no label; write KEY=VALUE"))
}
