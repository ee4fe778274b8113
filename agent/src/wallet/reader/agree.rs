//! What two nodes agree on: the same block by its hash, and the same answers as of it, byte for byte.

use std::sync::Arc;

use alloy_sol_types::{SolCall, SolInterface as _};
use sosna_contracts::{
    Phase, address,
    bindings::{HubRegistry, HubWallet},
    from_address, from_amount,
};
use sosna_protocol::{Address, Amount, Hash, eip712::Domain};
use tokio::task::JoinSet;

use super::endpoint::{AskError, Block, Endpoint, Said};
use crate::store::StoreError;

/// How many nodes must say the same.
const QUORUM: usize = 2;

/// Why nothing was seen.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    /// Too few answer.
    #[error("two nodes must agree, and they do not: {0}")]
    Silent(String),
    /// They say different things.
    #[error("nodes disagree about block {block}: {parties} say different things")]
    Disagree { block: u64, parties: String },
    /// They agree on what makes no sense.
    #[error("two nodes answer nonsense; is `chain.registry` the HubRegistry of this chain?")]
    Nonsense,
    /// They agree on what is long past.
    #[error("the newest block that two nodes know, number {block}, is {minutes} minutes old")]
    Stale { block: u64, minutes: u64 },
    /// The device's own store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a wallet is, as of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) block: u64,
    /// The block's time, seconds since 1970.
    pub(super) time: u64,
    /// Where it stands; `None` where the list of hubs does not have it.
    pub(super) phase: Option<Phase>,
    /// Whose vouchers it takes.
    pub(super) hub: Address,
    /// What is promised to nobody.
    pub(super) free: Amount,
    /// What was ever paid to this device.
    pub(super) paid: Amount,
    /// How often the device has said to whom it is paid: the nonce of the next time.
    pub(super) payee_nonce: u64,
    /// All zero where there is none.
    pub(super) newest: Hash,
    pub(super) before: Hash,
}

/// What a node says as of a block; nodes agree where all of it is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Testimony {
    block: Block,
    listed: Said,
    wallet: Said,
}

/// Asks all nodes; what at least two of them say, and more than say anything else.
///
/// # Errors
/// [`LookError`].
pub(super) async fn look(
    endpoints: &[Arc<Endpoint>],
    domain: &Domain,
    registry: Address,
    device: Address,
) -> Result<Seen, LookError> {
    let mut troubles = Vec::new();
    let mut heads = Vec::new();
    let asked = everybody(endpoints.iter().cloned(), |endpoint| async move { endpoint.head().await });
    for (endpoint, head) in asked.await {
        match head {
            Ok((id, head)) if id == domain.chain_id => heads.push((head, endpoint)),
            Ok((id, _)) => {
                troubles.push(format!("{} is of chain {id}, not {}", endpoint.name(), domain.chain_id));
            }
            Err(error) => troubles.push(format!("{}: {error}", endpoint.name())),
        }
    }
    // The newest block that two can know. One that is ahead, or says so, does not keep the others from agreeing.
    heads.sort_by_key(|(head, _)| std::cmp::Reverse(*head));
    let Some(at) = heads.get(QUORUM - 1).map(|(head, _)| *head) else {
        return Err(too_few(&troubles));
    };
    let (wallet, registry) = (address(&domain.wallet), address(&registry));
    let calls: [Vec<u8>; 2] = [
        HubRegistry::phaseOfCall { wallet }.abi_encode(),
        HubWallet::multicallCall { data: questions(device).into_iter().map(Into::into).collect() }
            .abi_encode(),
    ];
    let calls = Arc::new(calls);
    let asked = everybody(heads.into_iter().map(|(_, endpoint)| endpoint), |endpoint| {
        let calls = Arc::clone(&calls);
        async move {
            Ok::<_, AskError>(Testimony {
                block: endpoint.block(at).await?,
                listed: endpoint.call(registry, &calls[0], at).await?,
                wallet: endpoint.call(wallet, &calls[1], at).await?,
            })
        }
    });
    let mut testimonies: Vec<(Testimony, Vec<String>)> = Vec::new();
    for (endpoint, testimony) in asked.await {
        match testimony {
            Ok(testimony) => {
                let name = endpoint.name().to_owned();
                match testimonies.iter_mut().find(|(known, _)| *known == testimony) {
                    Some((_, names)) => names.push(name),
                    None => testimonies.push((testimony, vec![name])),
                }
            }
            Err(error) => troubles.push(format!("{}: {error}", endpoint.name())),
        }
    }
    testimonies.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    match testimonies.as_slice() {
        [(testimony, names), rest @ ..]
            if names.len() >= QUORUM && rest.first().is_none_or(|(_, others)| others.len() < names.len()) =>
        {
            read(at, testimony)
        }
        [_, _, ..] => {
            let parties: Vec<_> = testimonies.iter().map(|(_, names)| names.join(" and ")).collect();
            Err(LookError::Disagree { block: at, parties: parties.join(", ") })
        }
        _ => Err(too_few(&troubles)),
    }
}

fn too_few(troubles: &[String]) -> LookError {
    LookError::Silent(troubles.join("; "))
}

/// Asks all at once; who answered what.
async fn everybody<T: Send + 'static, F: Future<Output = Result<T, AskError>> + Send + 'static>(
    endpoints: impl Iterator<Item = Arc<Endpoint>>,
    ask: impl Fn(Arc<Endpoint>) -> F,
) -> Vec<(Arc<Endpoint>, Result<T, AskError>)> {
    let mut asked = JoinSet::new();
    for endpoint in endpoints {
        let answer = ask(Arc::clone(&endpoint));
        asked.spawn(async move { (endpoint, answer.await) });
    }
    asked.join_all().await
}

/// What the wallet is asked, all in one call.
fn questions(device: Address) -> [Vec<u8>; 5] {
    [
        HubWallet::hubCall {}.abi_encode(),
        HubWallet::freeCall {}.abi_encode(),
        HubWallet::rootsCall {}.abi_encode(),
        HubWallet::accountOfCall { device: address(&device) }.abi_encode(),
        HubWallet::payeeNonceCall { device: address(&device) }.abi_encode(),
    ]
}

fn read(block: u64, testimony: &Testimony) -> Result<Seen, LookError> {
    let none = Seen {
        block,
        time: testimony.block.time,
        phase: None,
        hub: Address::ZERO,
        free: Amount::ZERO,
        paid: Amount::ZERO,
        payee_nonce: 0,
        newest: Hash::ZERO,
        before: Hash::ZERO,
    };
    let phase = match &testimony.listed {
        Said::Answer(answer) => {
            HubRegistry::phaseOfCall::abi_decode_returns(answer).map_err(|_| LookError::Nonsense)?
        }
        Said::Refusal(refusal) => {
            return match HubRegistry::HubRegistryErrors::abi_decode(refusal) {
                Ok(HubRegistry::HubRegistryErrors::NotListed(_)) => Ok(none),
                _ => Err(LookError::Nonsense),
            };
        }
    };
    let Said::Answer(answers) = &testimony.wallet else { return Err(LookError::Nonsense) };
    let answers = HubWallet::multicallCall::abi_decode_returns(answers).map_err(|_| LookError::Nonsense)?;
    let [hub, free, roots, account, nonce] = answers.as_slice() else { return Err(LookError::Nonsense) };
    let hub = HubWallet::hubCall::abi_decode_returns(hub).map_err(|_| LookError::Nonsense)?;
    let free = HubWallet::freeCall::abi_decode_returns(free).map_err(|_| LookError::Nonsense)?;
    let roots = HubWallet::rootsCall::abi_decode_returns(roots).map_err(|_| LookError::Nonsense)?;
    let account = HubWallet::accountOfCall::abi_decode_returns(account).map_err(|_| LookError::Nonsense)?;
    let nonce = HubWallet::payeeNonceCall::abi_decode_returns(nonce).map_err(|_| LookError::Nonsense)?;
    Ok(Seen {
        phase: Some(Phase::from_number(phase).ok_or(LookError::Nonsense)?),
        hub: from_address(&hub),
        free: from_amount(&free).ok_or(LookError::Nonsense)?,
        paid: from_amount(&account.paid_).ok_or(LookError::Nonsense)?,
        payee_nonce: nonce.saturating_to(),
        newest: Hash(roots.newest.0),
        before: Hash(roots.before.0),
        ..none
    })
}
