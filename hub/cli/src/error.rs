//! Everything that can go wrong for a person at the command line, and the exit code that a script sees.

use std::io;

use sosna_api::{Code, Problem};
use sosna_host::{file::FileError, identity::IdentityError, report::Exit, tls::TlsError, token::TokenError};

use crate::{
    boinc::BoincError, chain::ChainError, image::ImageError, job::DraftError, results::ResultsError,
};

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hub says no, and why.
    #[error("{}: {}", .0.title, .0.detail)]
    Problem(Problem),
    /// No hub was named.
    #[error(
        "no hub is known: run `sosna login URL --token-file FILE`, or give --hub and --token-file, or set \
         SOSNA_HUB and SOSNA_TOKEN"
    )]
    NoHub,
    /// A hub's address that cannot be one.
    #[error("`{0}` is not a hub's address; it looks like https://hub.example:8443 or http://127.0.0.1:8080")]
    Address(String),
    /// Without TLS a token is everybody's.
    #[error(
        "{0} is neither https nor on this machine, and your token would be readable on the way; use https, or give \
         --insecure-http if you trust the network"
    )]
    Plain(String),
    /// Nobody is there.
    #[error("{hub} does not answer; is the hub running, and is its address right?")]
    NoAnswer {
        /// Where.
        hub: String,
        /// What the network says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody is there who is not the hub.
    #[error(
        "{hub} does not prove to be the hub; give --authority with the SHA-256 that its operator shows (it is in its \
         join tokens and at its start), and do not go on if that fails too"
    )]
    Untrusted {
        /// Where.
        hub: String,
        /// What TLS says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that no hub gives.
    #[error(
        "{hub} answers {path} with status {status} and nothing that a hub would say; is its address right?"
    )]
    NotAHub {
        /// Where.
        hub: String,
        /// What was asked for.
        path: String,
        /// What came.
        status: u16,
    },
    /// An answer that cannot be read.
    #[error("the answer of {hub} to {path} cannot be read; `sosna --version` may be older than the hub")]
    Answer {
        /// Where.
        hub: String,
        /// What was asked for.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS could not be set up.
    #[error("TLS cannot be used")]
    Tls(#[from] TlsError),
    /// A client could not be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// A local file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file that `sosna login` wrote.
    #[error("{path} is not what `sosna login` writes; run it again")]
    Credentials {
        /// The file.
        path: String,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// A token that no header can carry.
    #[error("the token in {0} is empty or has characters that no token has")]
    Token(String),
    /// Nowhere to keep anything.
    #[error("neither XDG_CONFIG_HOME nor HOME is set; {0}")]
    NoHome(&'static str),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What is to be submitted.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// What came back.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// A project's export.
    #[error(transparent)]
    Boinc(#[from] BoincError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The owner's key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Signing with it.
    #[error(transparent)]
    Sign(#[from] sosna_host::identity::CannotSign),
    /// The join token that came out cannot be used.
    #[error("the hub's part of the join token does not fit")]
    JoinToken(#[source] TokenError),
    /// The hub contradicts itself, or what is pinned.
    #[error("{0}")]
    Contradiction(String),
    /// What cannot be done as things stand.
    #[error("{0}")]
    Refused(String),
    /// A name that fits nothing.
    #[error("{0}")]
    NotFound(String),
    /// Arguments that cannot be.
    #[error("{0}")]
    Usage(String),
    /// What was waited for did not come.
    #[error("{0}")]
    Failed(String),
    /// Standard output is gone.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

impl Error {
    /// What a script sees.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Problem(problem) => of_code(problem.code),
            Self::NoHub
            | Self::Address(_)
            | Self::Plain(_)
            | Self::NoHome(_)
            | Self::Usage(_)
            | Self::Token(_) => Exit::Usage,
            Self::NoAnswer { .. } | Self::NotAHub { .. } => Exit::NoAnswer,
            Self::Untrusted { .. } | Self::Contradiction(_) | Self::Refused(_) => Exit::Refused,
            Self::NotFound(_) => Exit::NotFound,
            Self::Boinc(error) => error.exit(),
            Self::Chain(error) => error.exit(),
            Self::Image(error) => error.exit(),
            Self::Draft(error) => error.exit(),
            Self::Results(ResultsError::Missing { .. }) => Exit::NotFound,
            _ => Exit::Failed,
        }
    }

    /// Whether the reader of our output has gone, which is not worth a word.
    #[must_use]
    pub fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

const fn of_code(code: Code) -> Exit {
    match code {
        Code::Invalid => Exit::Usage,
        Code::NotFound | Code::UnknownImage | Code::MissingContent | Code::Expired => Exit::NotFound,
        // Permission, policy, funds: the hub could, and will not as things stand.
        Code::NoCredit
        | Code::Quota
        | Code::Unauthenticated
        | Code::Forbidden
        | Code::ImpossibleResources
        | Code::Conflict
        | Code::TooLarge => Exit::Refused,
        Code::UnreachableRegistry | Code::Busy => Exit::NoAnswer,
        Code::KeyReused | Code::WrongDigest | Code::DiskFull | Code::Internal => Exit::Failed,
    }
}
