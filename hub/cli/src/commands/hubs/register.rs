//! `sosna hubs register`: a hub's wallet, made, funded, registered and described. Every step looks first at what is on
//! the chain and is left out where it is done: nothing is done twice, however often the command is repeated.

use serde::Serialize;
use sosna_api::{
    text::{AmountText, HashText},
    wallet::WalletPhase,
};
use sosna_contracts::{
    address, amount,
    bindings::{HubWallet, HubWalletFactory, SNM},
};
use sosna_protocol::{Address, Amount};

use crate::{
    args::RegisterArgs,
    chain::{
        Advice, ChainError, Moment, Node, Sender, Sent, ether,
        wallet::{self, Contracts, State},
    },
    error::Error,
    output,
    quantity::show_duration,
};

/// One step, and the transaction that it took; none where it was done before.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    transaction: Option<HashText>,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done<'a> {
    steps: Vec<Step>,
    gas_ether: AmountText,
    #[serde(flatten)]
    state: &'a State,
}

/// A registration under way.
struct Course<'a> {
    args: &'a RegisterArgs,
    node: Node,
    sender: Sender,
    contracts: Contracts,
    steps: Vec<Step>,
    cost: u128,
}

pub(super) async fn register(args: &RegisterArgs) -> Result<(), Error> {
    let factory = args.act.chain.factory.ok_or(ChainError::NoFactory)?;
    let details = args.details.as_deref().map(super::digest).transpose()?;
    let node = args.act.chain.node().await?;
    let head = node.head().await?;
    let contracts = Contracts::of(&node, factory.0, head).await?;
    // A wallet that could never register would be made in vain.
    if !contracts.is_admitted(&node, head).await? {
        return Err(Error::Refused(format!(
            "the DAO does not admit wallets of the factory {factory} to the registry {}; is the factory's address right?",
            contracts.registry.checksummed()
        )));
    }
    let sender = args.act.sign.sender(node.clone())?;
    let mut course = Course { args, node, sender, contracts, steps: Vec::new(), cost: 0 };
    let wallet = course.make().await?;
    course.fund(wallet).await?;
    course.register(wallet).await?;
    course.describe(wallet, details).await?;
    course.tell(wallet).await
}

// === impl Course ===

impl Course<'_> {
    /// The wallet of this owner for this hub's key, made where there is none.
    async fn make(&mut self) -> Result<Address, Error> {
        let moment = self.sender.moment().await?;
        let found = self.find(moment).await?;
        let Some((wallet, phase)) = found else {
            let call = HubWalletFactory::createCall { hub: address(&self.args.hub_key) };
            let factory = self.contracts.factory;
            self.send("make", moment, "making a wallet", factory, &call).await?;
            let moment = self.sender.moment().await?;
            let made = self.find(moment).await?;
            return made.map(|(wallet, _)| wallet).ok_or_else(|| {
                Error::Failed(
                    "the factory made no wallet for the hub's key; is it the right factory?".to_owned(),
                )
            });
        };
        match phase {
            WalletPhase::Suspected => Err(Error::Refused(format!(
                "the DAO suspects this hub's wallet {}: until it decides, nothing new can be done",
                wallet.checksummed()
            ))),
            WalletPhase::Punished => Err(Error::Refused(format!(
                "the DAO has banned this hub's wallet {}: a hub with another key may get another",
                wallet.checksummed()
            ))),
            WalletPhase::Created | WalletPhase::Registered | WalletPhase::Idle => {
                self.left_out("make", &format!("the wallet {} is there", wallet.checksummed()));
                Ok(wallet)
            }
        }
    }

    /// This owner's wallet for this hub's key; the one at work where there are several.
    async fn find(&self, moment: Moment) -> Result<Option<(Address, WalletPhase)>, Error> {
        let mut best: Option<(Address, WalletPhase)> = None;
        let owner = self.sender.account();
        for wallet in self.contracts.wallets_of(&self.node, owner, moment.block).await? {
            if wallet::hub(&self.node, wallet, moment.block).await? != self.args.hub_key.0 {
                continue;
            }
            let phase = wallet::phase(&self.node, wallet, moment.block).await?;
            if best.is_none_or(|(_, known)| rank(phase) < rank(known)) {
                best = Some((wallet, phase));
            }
        }
        Ok(best)
    }

    /// Sends what is missing of what the wallet shall hold.
    async fn fund(&mut self, wallet: Address) -> Result<(), Error> {
        let Some(wanted) = self.args.fund else { return Ok(()) };
        let moment = self.sender.moment().await?;
        let holds = self.contracts.balance(&self.node, wallet, moment.block).await?;
        let missing = wanted.checked_sub(holds).unwrap_or_default();
        if missing == Amount::ZERO {
            self.left_out("fund", &format!("it holds {holds} SNM"));
            return Ok(());
        }
        let account = self.sender.account();
        let has = self.contracts.balance(&self.node, account, moment.block).await?;
        if has < missing {
            return Err(ChainError::NoTokens { account, has, needs: missing }.into());
        }
        let call = SNM::transferCall { to: address(&wallet), value: amount(missing) };
        let what = format!("sending it {missing} SNM");
        self.send("fund", moment, &what, self.contracts.token, &call).await?;
        Ok(())
    }

    /// Begins a period, where none runs.
    async fn register(&mut self, wallet: Address) -> Result<(), Error> {
        let moment = self.sender.moment().await?;
        if wallet::phase(&self.node, wallet, moment.block).await? == WalletPhase::Registered {
            self.left_out("register", "it is registered");
            return Ok(());
        }
        let call = HubWallet::registerCall {};
        match self.send("register", moment, "registering it", wallet, &call).await {
            // What is missing is the owner's to give, by this same command.
            Err(Error::Chain(ChainError::Refused { words })) if self.args.fund.is_none() => {
                Err(Error::Refused(format!("{words}; --fund AMOUNT sends it what is missing")))
            }
            other => other.map(drop),
        }
    }

    async fn describe(
        &mut self,
        wallet: Address,
        details: Option<sosna_protocol::Hash>,
    ) -> Result<(), Error> {
        let moment = self.sender.moment().await?;
        let listing = self.contracts.listing(&self.node, wallet, moment.block).await?;
        let listing = listing.ok_or_else(|| {
            Error::Failed("the wallet has registered and its registry does not list it".to_owned())
        })?;
        let (name, url) = (Some(self.args.name.as_str()), Some(self.args.url.as_str()));
        match super::description(wallet, &listing, name, url, details) {
            None => self.left_out("describe", "it is described"),
            Some(call) => {
                let registry = self.contracts.registry;
                self.send("describe", moment, "describing it", registry, &call).await?;
            }
        }
        Ok(())
    }

    /// What is to be known in the end, and the lines for the hub's settings.
    async fn tell(self, wallet: Address) -> Result<(), Error> {
        let moment = self.sender.moment().await?;
        let state = State::look(&self.node, wallet, &self.contracts, moment.block).await?;
        let count = self.steps.iter().filter(|step| step.transaction.is_some()).count();
        let gas_ether = Amount::from_units(self.cost).into();
        if self.args.act.json {
            return output::json(&Done { steps: self.steps, gas_ether, state: &state });
        }
        if count > 0 {
            output::note(&format!("{} ether for gas in {count} transactions", ether(self.cost)));
        }
        if let Some(at) = state.payday_ms {
            output::note(&match at.checked_sub(state.now_ms) {
                Some(left) if left > 0 => format!("its period ends in {}", show_duration(left)),
                _ => format!("its period is over: `sosna hubs payday {}` ends it", state.wallet),
            });
        }
        if state.hub_ether.units() == 0 {
            output::note(&format!("the hub's key {} has no ether; it needs some for each root", state.hub));
        }
        let (endpoint, is_whole) = self.node.shown();
        let comment = if is_whole { "" } else { "   # whole, with its access key" };
        output::line(&format!(
            "[chain]\nid = {}\nwallet = \"{}\"\nendpoints = [\"{endpoint}\"]{comment}",
            state.chain_id, state.wallet
        ))
    }

    async fn send<C: alloy_sol_types::SolCall>(
        &mut self,
        step: &'static str,
        moment: Moment,
        what: &str,
        to: Address,
        call: &C,
    ) -> Result<Sent, Error> {
        let sent = self.sender.send(moment, what, to, call, Advice::Repeat).await?;
        self.steps.push(Step { step, transaction: Some(sent.hash.into()) });
        self.cost = self.cost.saturating_add(sent.cost);
        Ok(sent)
    }

    fn left_out(&mut self, step: &'static str, why: &str) {
        output::note(why);
        self.steps.push(Step { step, transaction: None });
    }
}

/// Which of several wallets for one hub counts: the one at work, then one that can be.
const fn rank(phase: WalletPhase) -> u8 {
    match phase {
        WalletPhase::Registered => 0,
        WalletPhase::Idle => 1,
        WalletPhase::Created => 2,
        WalletPhase::Suspected => 3,
        WalletPhase::Punished => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wallet_at_work_counts() {
        let mut phases = [
            WalletPhase::Punished,
            WalletPhase::Created,
            WalletPhase::Suspected,
            WalletPhase::Idle,
            WalletPhase::Registered,
        ];
        phases.sort_by_key(|phase| rank(*phase));
        assert_eq!((phases[0], phases[4]), (WalletPhase::Registered, WalletPhase::Punished));
    }
}
