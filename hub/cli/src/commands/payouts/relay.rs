//! `sosna payouts relay`: brings to a wallet what a device has signed, for the fee that it allows.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use sosna_api::text::{AddressText, AmountText};
use sosna_contracts::{bindings::HubWallet, from_address, from_amount};
use sosna_host::file::FileError;
use sosna_protocol::Amount;

use crate::{
    args::RelayArgs,
    chain::{Advice, Call, ChainError, Claim, Registration, ether, wallet},
    error::Error,
    output, show,
};

/// More than any claim has.
const MAX_READ: u64 = 1 << 20;

pub(super) async fn relay(args: &RelayArgs) -> Result<(), Error> {
    let (bytes, from) = read(&args.claim)?;
    if let Some(payee) = Registration::read(&bytes).map_err(ChainError::from)? {
        return register(args, &payee).await;
    }
    let claim = Claim::read(&bytes, &from).map_err(ChainError::from)?;
    let payout = &claim.payout;
    let node = args.act.chain.node().await?;
    node.require_chain("the claim", claim.chain_id)?;
    let head = node.head().await?;
    wallet::open(&node, payout.wallet, args.act.chain.factory.map(|it| it.0), head).await?;
    let hub = wallet::hub(&node, payout.wallet, head).await?;
    let roots = wallet::roots(&node, payout.wallet, head).await?;
    claim.require_owed(hub, &[*roots.newest, *roots.before]).map_err(ChainError::from)?;

    let mut sender = args.act.sign.sender(node.clone())?;
    let moment = sender.moment().await?;
    let paid = wallet::paid(&node, payout.wallet, &[payout.device], moment.block, |_| ()).await?;
    let paid = paid.first().copied().unwrap_or_default();
    // Where nothing is left, the wallet says so itself.
    let owed = payout.cumulative.checked_sub(paid).unwrap_or_default();
    let fee = args.fee.map_or_else(|| payout.max_fee.min(owed), |fee| fee.0);
    const WHAT: &str = "bringing the claim";
    let sent = match claim.call(fee) {
        Call::Voucher(call) => sender.send(moment, WHAT, payout.wallet, &call, Advice::Repeat).await?,
        Call::Root(call) => sender.send(moment, WHAT, payout.wallet, &call, Advice::Repeat).await?,
    };

    let amount = |value: &alloy_primitives::U256| from_amount(value).unwrap_or_default();
    let told: Option<HubWallet::Paid> = sent.events(payout.wallet).next();
    let kept: Option<HubWallet::Relayed> = sent.events(payout.wallet).next();
    let kept = kept.map_or(Amount::ZERO, |kept| amount(&kept.fee));
    let (to, all) = told.map_or((payout.to, owed), |paid| (from_address(&paid.to), amount(&paid.amount)));
    let net = all.checked_sub(kept).unwrap_or_default();
    if args.act.json {
        return output::json(&serde_json::json!({
            "device": AddressText::from(payout.device),
            "to": AddressText::from(to),
            "paid": AmountText::from(net),
            "fee": AmountText::from(kept),
            "relayer": AddressText::from(sender.account()),
            "transaction": sosna_api::text::HashText::from(sent.hash),
            "gas_ether": AmountText::from(Amount::from_units(sent.cost)),
        }));
    }
    output::line(&show::facts(&[
        ("paid", format!("{net} SNM to {}", to.checksummed())),
        ("for device", payout.device.checksummed().as_str().to_owned()),
        ("fee", format!("{kept} SNM to {}", sender.account().checksummed())),
        ("transaction", format!("0x{}", sent.hash)),
        ("gas", format!("{} ether", ether(sent.cost))),
    ]))
}

/// Says at the wallet to whom a device is paid from now on.
async fn register(args: &RelayArgs, signed: &Registration) -> Result<(), Error> {
    let (at, payee) = (signed.domain.wallet, &signed.payee);
    let node = args.act.chain.node().await?;
    node.require_chain("the payee", signed.domain.chain_id)?;
    let head = node.head().await?;
    wallet::open(&node, at, args.act.chain.factory.map(|it| it.0), head).await?;
    if args.fee.is_some_and(|fee| fee.0 > Amount::ZERO) {
        return Err(Error::Refused(
            "a payee is registered for nothing: leave out --fee; what you may keep is a share of what you settle"
                .to_owned(),
        ));
    }
    let mut sender = args.act.sign.sender(node)?;
    let moment = sender.moment().await?;
    let sent = sender.send(moment, "registering the payee", at, &signed.call(), Advice::Repeat).await?;
    if args.act.json {
        return output::json(&serde_json::json!({
            "device": AddressText::from(payee.device),
            "payee": AddressText::from(payee.payee),
            "share_per_mille": payee.share_per_mille,
            "transaction": sosna_api::text::HashText::from(sent.hash),
            "gas_ether": AmountText::from(Amount::from_units(sent.cost)),
        }));
    }
    let share = format!("{}.{} % of each payment", payee.share_per_mille / 10, payee.share_per_mille % 10);
    output::line(&show::facts(&[
        ("device", payee.device.checksummed().as_str().to_owned()),
        ("paid to", payee.payee.checksummed().as_str().to_owned()),
        ("whoever settles", format!("may keep {share}")),
        ("transaction", format!("0x{}", sent.hash)),
        ("gas", format!("{} ether", ether(sent.cost))),
    ]))
}

/// The claim's bytes, and where they come from.
fn read(path: &Path) -> Result<(Vec<u8>, String), Error> {
    let (mut bytes, is_input) = (Vec::new(), path.as_os_str() == "-");
    let read = if is_input {
        io::stdin().lock().take(MAX_READ).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes))
    };
    read.map_err(FileError::of("read", path))?;
    let from = if is_input { "standard input".to_owned() } else { path.display().to_string() };
    Ok((bytes, from))
}
