//! `sosna deposits notice` and `take-back`: how a buyer gets back what is left, also from a hub that does not answer.

use serde_json::json;
use sosna_api::text::{AddressText, AmountText};
use sosna_contracts::{address, amount, bindings::DealEscrow};
use sosna_protocol::{Address, Amount};

use super::{Step, list};
use crate::{
    args::{LeaveArgs, TakeBackArgs, Withdrawal},
    chain::{
        Advice, Moment, Node, Sender,
        escrow::{Escrow, Held},
        ether,
    },
    connect::ConnectArgs,
    error::Error,
    output,
    quantity::show_duration,
    show,
};

/// A deposit, and who acts on it.
struct Course {
    node: Node,
    sender: Sender,
    moment: Moment,
    wallet: Address,
    escrow: Escrow,
    held: Held,
}

impl Course {
    async fn begin(connect: &ConnectArgs, args: &LeaveArgs) -> Result<Self, Error> {
        let node = Node::named(args.chain.endpoint.as_deref()).await?;
        let (wallet, escrow) = match (args.wallet, args.chain.escrow) {
            (Some(wallet), Some(escrow)) => (wallet.0, escrow.0),
            // Only gas is at stake where the hub names the wrong ones.
            (wallet, escrow) => {
                let list = list(&crate::commands::hub(connect)?).await?;
                node.require_chain("the hub's deposits", list.chain_id)?;
                (
                    wallet.map_or(*list.wallet, |wallet| wallet.0),
                    escrow.map_or(*list.escrow, |escrow| escrow.0),
                )
            }
        };
        let sender = args.sign.sender(node.clone())?;
        let moment = sender.moment().await?;
        let escrow = Escrow::of(&node, escrow, wallet, moment.block).await?;
        let held = escrow.held(&node, sender.account(), wallet, moment.block).await?;
        Ok(Self { node, sender, moment, wallet, escrow, held })
    }

    /// How long until what is left can be taken back, for people.
    fn opens(&self, held: &Held) -> String {
        match held.open_from.checked_sub(self.moment.block.time) {
            Some(left) if left > 0 => format!("in {}", show_duration(left.saturating_mul(1000))),
            _ => "now".to_owned(),
        }
    }
}

pub(super) async fn notice(connect: &ConnectArgs, args: &LeaveArgs) -> Result<(), Error> {
    let mut course = Course::begin(connect, args).await?;
    let account = course.sender.account();
    if course.held.left() == Amount::ZERO {
        return Err(Error::Refused(format!(
            "{} has nothing left at the wallet {}; nothing was sent",
            account.checksummed(),
            course.wallet.checksummed()
        )));
    }
    let mut step = None;
    // Again, it would begin to count anew.
    if course.held.open_from == 0 {
        let call = DealEscrow::giveNoticeCall { wallet: address(&course.wallet) };
        let (moment, at) = (course.moment, course.escrow.at);
        let sent = course.sender.send(moment, "announcing it", at, &call, Advice::Repeat).await?;
        course.moment = course.sender.moment().await?;
        course.held = course.escrow.held(&course.node, account, course.wallet, course.moment.block).await?;
        step = Some(sent);
    }
    let held = course.held;
    if args.json {
        return output::json(&json!({
            "account": AddressText::from(account),
            "left": AmountText::from(held.left()),
            "open_ms": held.open_from.saturating_mul(1000),
            "steps": step.iter().map(|sent| Step::new("notice", sent)).collect::<Vec<_>>(),
        }));
    }
    let mut rows = vec![
        ("left", format!("{} SNM, less what the hub brings until then", held.left())),
        ("take back", course.opens(&held)),
    ];
    match &step {
        Some(sent) => rows.extend([
            ("transaction", format!("0x{}", sent.hash)),
            ("gas", format!("{} ether", ether(sent.cost))),
        ]),
        None => rows.push(("notice", "was given before; nothing was sent".to_owned())),
    }
    output::line(&show::facts(&rows))
}

pub(super) async fn take_back(connect: &ConnectArgs, args: &TakeBackArgs) -> Result<(), Error> {
    let mut course = Course::begin(connect, &args.leave).await?;
    let left = course.held.left();
    let (units, advice) = match args.amount {
        Withdrawal::Amount(amount) => (amount.0, Advice::LookFirst("sosna deposits")),
        Withdrawal::All => (left, Advice::Repeat),
    };
    if units == Amount::ZERO {
        return Err(Error::Refused("there is nothing to take back; nothing was sent".to_owned()));
    }
    let call = DealEscrow::takeBackCall { wallet: address(&course.wallet), amount: amount(units) };
    let what = format!("taking back {units} SNM");
    let sent = course.sender.send(course.moment, &what, course.escrow.at, &call, advice).await?;
    let rest = left.checked_sub(units).unwrap_or_default();
    if args.leave.json {
        return output::json(&json!({
            "account": AddressText::from(course.sender.account()),
            "taken_back": AmountText::from(units),
            "left": AmountText::from(rest),
            "steps": [Step::new("take_back", &sent)],
        }));
    }
    output::line(&show::facts(&[
        ("taken back", format!("{units} SNM; {rest} are left")),
        ("transaction", format!("0x{}", sent.hash)),
        ("gas", format!("{} ether", ether(sent.cost))),
    ]))
}
