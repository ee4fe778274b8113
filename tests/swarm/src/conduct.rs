//! How simulated devices behave: most are honest, and some cheat in one way each.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// A device's way of dealing with its hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conduct {
    /// Does its work and says what came of it.
    Honest,
    /// Shows a wrong result, each device another one.
    Liar,
    /// Shows a wrong result, all such devices the same.
    Colluder,
    /// Commits to its result and never shows it.
    Withholder,
    /// Shows its result with another salt than it has committed to.
    Resalter,
    /// Commits to what another device has committed to, and shows that one's result and salt.
    Copier,
    /// Shows its result without waiting until commitments are closed.
    Hasty,
    /// Is silent about its work until others have got it, and then commits all the same, whatever the hub says.
    Tardy,
    /// Takes work, says that it goes on, and never ends it.
    Idler,
    /// Hangs up whenever it has taken work, and goes on with it when it comes back.
    Deserter,
    /// Refuses everything that it is offered.
    Refuser,
    /// Sends every frame twice, and all of its last ones again when it comes back.
    Replayer,
    /// Reports far more usage than there was.
    Boaster,
    /// Believes its own clock, which is wrong by a day at least: where it is ahead, all that the hub says is out of date.
    Mistimed,
}

/// A word that is no conduct.
#[derive(Debug, thiserror::Error)]
#[error("{word:?} is no conduct; there are {known}", known = Conduct::ALL.map(Conduct::word).join(", "))]
pub struct UnknownConduct {
    word: String,
}

// === impl Conduct ===

impl Conduct {
    /// Every conduct.
    pub const ALL: [Self; 14] = [
        Self::Honest,
        Self::Liar,
        Self::Colluder,
        Self::Withholder,
        Self::Resalter,
        Self::Copier,
        Self::Hasty,
        Self::Tardy,
        Self::Idler,
        Self::Deserter,
        Self::Refuser,
        Self::Replayer,
        Self::Boaster,
        Self::Mistimed,
    ];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::Liar => "liar",
            Self::Colluder => "colluder",
            Self::Withholder => "withholder",
            Self::Resalter => "resalter",
            Self::Copier => "copier",
            Self::Hasty => "hasty",
            Self::Tardy => "tardy",
            Self::Idler => "idler",
            Self::Deserter => "deserter",
            Self::Refuser => "refuser",
            Self::Replayer => "replayer",
            Self::Boaster => "boaster",
            Self::Mistimed => "mistimed",
        }
    }

    /// Whether its results are those of an honest device, so that a hub should pay for them.
    #[must_use]
    pub const fn is_right(self) -> bool {
        matches!(
            self,
            Self::Honest | Self::Tardy | Self::Deserter | Self::Replayer | Self::Boaster | Self::Mistimed
        )
    }
}

impl fmt::Display for Conduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Conduct {
    type Err = UnknownConduct;

    fn from_str(word: &str) -> Result<Self, UnknownConduct> {
        let found = Self::ALL.into_iter().find(|conduct| conduct.word() == word);
        found.ok_or_else(|| UnknownConduct { word: word.to_owned() })
    }
}
