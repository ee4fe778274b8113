//! What the contracts say when they refuse, in words for a person.

use alloy_primitives::U256;
use alloy_sol_types::{ContractError, SolInterface as _};
use sosna_contracts::{
    bindings::{
        DealEscrow::DealEscrowErrors, HubRegistry::HubRegistryErrors, HubWallet::HubWalletErrors,
        HubWalletFactory::HubWalletFactoryErrors, SNM::SNMErrors,
    },
    from_address, from_amount,
};
use sosna_protocol::Address;

use super::wallet::phase_word;
use crate::quantity::show_duration;

/// A contract's error in words; `now` is the chain's own, in seconds. What no contract of ours says is shown as it is,
/// or else what the node said about it.
pub(super) fn words(error: &[u8], said: &str, now: u64) -> String {
    if let Ok(error) = HubWalletErrors::abi_decode(error) {
        return of_wallet(&error, now);
    }
    if let Ok(error) = HubRegistryErrors::abi_decode(error) {
        return of_registry(&error);
    }
    if let Ok(error) = SNMErrors::abi_decode(error) {
        return of_token(&error);
    }
    if let Ok(error) = DealEscrowErrors::abi_decode(error) {
        return of_escrow(&error, now);
    }
    if let Ok(HubWalletFactoryErrors::NoHub(_)) = HubWalletFactoryErrors::abi_decode(error) {
        return "a wallet must have a hub: the address of its key is zero".into();
    }
    match ContractError::<HubWalletErrors>::abi_decode(error) {
        Ok(ContractError::Revert(revert)) => format!("the contract says: {}", revert.reason()),
        Ok(ContractError::Panic(panic)) => format!("the contract fails: {panic}"),
        _ if error.is_empty() => format!("the node says: {said}"),
        _ => format!("the contract says 0x{}", alloy_primitives::hex::encode(error)),
    }
}

fn of_wallet(error: &HubWalletErrors, now: u64) -> String {
    use HubWalletErrors as E;
    match error {
        E::AlreadyPaid(it) => {
            format!("the device {} has been paid {} SNM already", name(&it.device), snm(&it.paid))
        }
        E::Expired(it) => {
            format!("it was signed to be used until {}: it has expired", time(&it.deadline, now))
        }
        E::FeeTooHigh(it) => format!(
            "a fee of {} SNM is more than may be kept of this payment, {} SNM",
            snm(&it.fee),
            snm(&it.most)
        ),
        E::NoPayee(_) => "nobody can be paid at the address zero".into(),
        E::NoSuchRoot(it) => {
            format!("no root that can be claimed by is 0x{}", alloy_primitives::hex::encode(it.root))
        }
        E::NotTheDao(it) => format!("only the DAO may do this, and {} is not it", name(&it.caller)),
        E::NotTheHub(it) => {
            format!("only the wallet's hub or owner may do this, and {} is neither", name(&it.caller))
        }
        E::NotTheOwner(it) => {
            format!("only the wallet's owner may do this, and {} is not; give its --key", name(&it.caller))
        }
        E::TooEarly(it) => format!("it is too early: this is possible {}", time(&it.until, now)),
        E::TooMuch(it) => format!("no device can be paid {} SNM", snm(&it.cumulative)),
        E::TotalTooSmall(it) => format!(
            "a total of {} SNM is less than the {} SNM that were paid already",
            snm(&it.total),
            snm(&it.paid)
        ),
        E::Underfunded(it) => format!(
            "the wallet is not funded for it: it holds {} SNM and must hold {} for this, with what is frozen, locked \
             and owed to devices",
            snm(&it.balance),
            snm(&it.needed)
        ),
        E::WrongNonce(it) => {
            format!("it is number {} and number {} is expected: it has been used", it.nonce, it.expected)
        }
        E::WrongPhase(it) => {
            format!("the wallet is {}, and this is not possible in that phase", phase_word(it.phase))
        }
        E::WrongSigner(it) => {
            format!("it is signed by {} and not by {}", name(&it.signer), name(&it.expected))
        }
        E::WrongWallet(it) => format!("it was signed for another wallet, {}", name(&it.wallet)),
        E::ECDSAInvalidSignature(_) | E::ECDSAInvalidSignatureLength(_) | E::ECDSAInvalidSignatureS(_) => {
            "a signature in it is none".into()
        }
        E::MerkleProofInvalidMultiproof(_) => "the proof leads nowhere".into(),
        E::SafeCastOverflowedUintDowncast(_) => "an amount in it is larger than the contract keeps".into(),
        E::AddressEmptyCode(_) | E::FailedCall(_) | E::SafeERC20FailedOperation(_) => {
            "the token's transfer fails".into()
        }
    }
}

fn of_escrow(error: &DealEscrowErrors, now: u64) -> String {
    use DealEscrowErrors as E;
    match error {
        E::NoAmount(_) => "nothing cannot be paid in".into(),
        E::NoNotice(_) => {
            "it was not announced that the deposit is taken back; `sosna deposits notice` announces it".into()
        }
        E::NotAWallet(it) => format!("{} is no hub's wallet that the escrow pays to", name(&it.wallet)),
        E::NotConfirmed(it) => format!("the buyer {} has not signed that", name(&it.buyer)),
        E::NothingDue(it) => format!("the hub was paid {} SNM already", snm(&it.claimed)),
        E::TooEarly(it) => format!("it is too early: this is possible {}", time(&it.until, now)),
        E::TooLate(it) => format!("it is too late: this was possible until {}", time(&it.until, now)),
        E::TooLittle(it) => {
            format!("only {} SNM are left, and {} are wanted", snm(&it.left), snm(&it.wanted))
        }
        E::WrongParty(it) => format!("this is not for {} to do; give another --key", name(&it.caller)),
        E::SafeCastOverflowedUintDowncast(_) => "an amount in it is larger than the contract keeps".into(),
        E::SafeERC20FailedOperation(_) => "the token's transfer fails".into(),
        // Of deals and streams, which no command makes yet.
        E::HasStarted(_) | E::IsOver(_) | E::TooLong(_) | E::TooMuchForHub(_) | E::WrongDealPhase(_) => {
            format!("the escrow says: {error:?}")
        }
    }
}

fn of_registry(error: &HubRegistryErrors) -> String {
    use HubRegistryErrors as E;
    match error {
        E::NotAWallet(it) => format!(
            "the registry does not know the maker of the wallet {}: the DAO has not admitted its factory",
            name(&it.caller)
        ),
        E::NotListed(it) => {
            format!("the wallet {} is in no registry: it has never been registered", name(&it.wallet))
        }
        E::NotTheDao(it) => format!("only the DAO may do this, and {} is not it", name(&it.caller)),
        E::NotTheOwner(it) => {
            format!("only the wallet's owner may do this, and {} is not; give its --key", name(&it.caller))
        }
        E::TooLong(it) => {
            let what = crate::show::plain(&it.what);
            format!("the {what} has {} bytes and may have {}", it.length, it.longest)
        }
    }
}

fn of_token(error: &SNMErrors) -> String {
    match error {
        SNMErrors::ERC20InsufficientBalance(it) => {
            format!("{} has {} SNM and {} are needed", name(&it.sender), snm(&it.balance), snm(&it.needed))
        }
        SNMErrors::ERC20InvalidReceiver(it) => {
            format!("the token does not go to {}", name(&it.receiver))
        }
        other => format!("the token says: {other:?}"),
    }
}

fn name(address: &alloy_primitives::Address) -> String {
    let ours: Address = from_address(address);
    ours.checksummed().as_str().to_owned()
}

fn snm(units: &U256) -> String {
    from_amount(units).map_or_else(|| "more than there are".to_owned(), |amount| amount.to_string())
}

/// When, by the chain's own clock.
fn time(at: &U256, now: u64) -> String {
    let at: u64 = at.saturating_to();
    match at.checked_sub(now) {
        Some(0) => "now".to_owned(),
        Some(left) => format!("in {}", show_duration(left.saturating_mul(1000))),
        None => format!("{} ago", show_duration((now - at).saturating_mul(1000))),
    }
}

#[cfg(test)]
mod tests {
    use alloy_sol_types::{Panic, Revert, SolError as _};
    use sosna_contracts::bindings::{DealEscrow, HubRegistry, HubWallet, SNM};

    use super::*;

    #[test]
    fn every_contracts_errors_have_words() {
        let amount = |snm: u64| U256::from(snm) * U256::from(10_u64.pow(18));
        let device = alloy_primitives::Address::repeat_byte(0x5a);
        let say = |error: Vec<u8>| words(&error, "", 1_000_000);
        let paid = HubWallet::AlreadyPaid { device, paid: amount(3) }.abi_encode();
        assert_eq!(
            say(paid),
            "the device 0x5A5a5a5a5a5A5a5a5a5a5a5A5a5a5a5a5a5a5A5A has been paid 3 SNM already"
                .replace("0x5A5a5a5a5a5A5a5a5a5a5a5A5a5a5a5a5a5a5A5A", &name(&device))
        );
        let early = HubWallet::TooEarly { until: U256::from(1_000_000 + 3 * 86_400 + 3600) }.abi_encode();
        assert!(say(early).ends_with("possible in 3d 1h"));
        let expired = HubWallet::Expired { deadline: U256::from(1_000_000 - 60) }.abi_encode();
        assert!(say(expired).contains("until 1m ago: it has expired"));
        let listed = HubRegistry::NotListed { wallet: device }.abi_encode();
        assert!(say(listed).contains("never been registered"));
        let poor = SNM::ERC20InsufficientBalance { sender: device, balance: amount(1), needed: amount(2) };
        assert!(say(poor.abi_encode()).ends_with("has 1 SNM and 2 are needed"));
        let little = DealEscrow::TooLittle { wanted: amount(3), left: amount(2) };
        assert_eq!(say(little.abi_encode()), "only 2 SNM are left, and 3 are wanted");
        assert!(say(DealEscrow::NoNotice {}.abi_encode()).contains("`sosna deposits notice`"));
        assert_eq!(say(Revert::from("why").abi_encode()), "the contract says: why");
        assert!(say(Panic::from(0x11_u64).abi_encode()).contains("the contract fails"));
        assert_eq!(say(vec![1, 2, 3, 4, 5]), "the contract says 0x0102030405");
        assert_eq!(words(&[], "execution reverted", 0), "the node says: execution reverted");
    }
}
