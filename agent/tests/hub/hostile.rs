//! A hub and a broker that mean a device no good: each attempt is refused, the device says why where there is somebody to
//! tell, and goes on working for whoever is honest.

use std::time::Duration;

use sosna_host::identity::IdentityKey;
use sosna_protocol::{
    Address, Amount, Hash,
    codec::{Bounded, Encode, EncodeError, List, Writer},
    envelope::Meta,
    frame::MAX_FRAME,
    identity::{AssignmentId, Nonce, Sign as _},
    message::{
        Message,
        enrol::Granted,
        hello::Welcome,
        pay,
        result::{Closed, Judgement, Up, Verdict},
        work::{self, Assign, Cancel, Network, Reason},
    },
    result::Cause,
    topic::Kind,
};

use crate::{
    accept_verdict, accepted, assign, check, containers_left, revealed,
    support::{
        ScriptedHub, now_ms,
        opening::{Opening, enrolled},
    },
};

const MOMENT: Duration = Duration::from_millis(1500);
const YEARS_MS: u64 = 20 * 365 * 86_400_000;

/// Why the device does not take an assignment.
async fn refused(hub: &mut ScriptedHub, work: &Assign<'_>) -> Reason {
    let heard = hub.hear(&[Kind::Work]).await;
    match work::Up::read(&heard.frame()).unwrap() {
        work::Up::Refuse(refuse) => {
            assert_eq!(refuse.assignment, work.assignment);
            assert!(!refuse.explanation.0.is_empty());
            refuse.reason
        }
        work::Up::Accept(accept) => panic!("it accepted {:?}", accept.assignment),
    }
}

/// "Run this": a message that the protocol does not have, under some number of the exchange about work.
struct Remote<'a, const NUMBER: u64>(&'a [&'a str]);

impl<const NUMBER: u64> Encode for Remote<'_, NUMBER> {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.array(self.0.len())?;
        self.0.iter().try_for_each(|text| writer.text(text))
    }
}

impl<const NUMBER: u64> Message for Remote<'_, NUMBER> {
    const KIND: Kind = Kind::Work;
    const NUMBER: u64 = NUMBER;
}

/// A frame of the hub's with an envelope to choose.
fn sealed<M: Message>(
    hub: &ScriptedHub,
    audience: Address,
    counter: u64,
    expires_ms: u64,
    message: &M,
) -> Vec<u8> {
    let meta = Meta { sender: hub.key.address(), audience, epoch: 1, counter, expires_ms };
    sosna_host::seal::one(&hub.key, meta, sosna_host::seal::body(message).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_hub_and_a_hostile_broker_get_nothing() {
    let Some(opening) = enrolled("a_hostile_hub_and_a_hostile_broker_get_nothing", true).await else {
        return;
    };
    let Opening { folder, mut hub, image, agent, device } = opening;

    // --- a hub that signs what it should not

    // Less than was agreed: the price list is the device's own.
    // Long enough that nothing of it comes among the refusals.
    let script = "sleep 5; echo done > /out/tile";
    let work = |hub: &ScriptedHub| assign(hub, image, script, true);
    let cheap = Assign { price: Amount::from_units(1), ..work(&hub) };
    hub.say(device, &cheap).await;
    assert_eq!(refused(&mut hub, &cheap).await, Reason::Price);
    // The same at a price that is right at first: the second one names the assignment again, for less.
    let dear = work(&hub);
    hub.say(device, &dear).await;
    assert_eq!(accepted(&hub.hear(&[Kind::Work]).await), dear.assignment);
    hub.say(device, &Assign { price: Amount::from_units(1), ..dear.clone() }).await;
    assert_eq!(refused(&mut hub, &dear).await, Reason::Malformed);
    // More than the device lends, a network that it does not have, more owed than it trusts the hub for.
    let mut large = work(&hub);
    large.resources.memory = 1 << 50;
    large.price = Amount::from_units(u128::MAX / 2);
    hub.say(device, &large).await;
    assert!(matches!(refused(&mut hub, &large).await, Reason::Exposure | Reason::NoRoom | Reason::Price));
    let open = Assign { network: Network::Internet, ..work(&hub) };
    hub.say(device, &open).await;
    assert_eq!(refused(&mut hub, &open).await, Reason::Unsupported);

    // A command for the device itself, in the place of what there is and of what there is not.
    let owned = folder.path().join("owned");
    let command = ["sh", "-c", &format!("touch {}", owned.display())];
    let before = agent.status().refused_frames;
    hub.say(device, &Remote::<0>(&command)).await;
    hub.say(device, &Remote::<2>(&command)).await;
    hub.say(device, &Remote::<98>(&command)).await;
    hub.hear_nothing(&[Kind::Work], MOMENT).await;
    let status = agent.status();
    assert!(status.connected && status.refused_frames >= before + 3, "{before} {status:?}");
    assert!(!owned.exists(), "it ran what the hub said");

    // The first one goes on as it was agreed.
    let heard = hub.hear(&[Kind::Result]).await;
    assert!(matches!(Up::read(&heard.frame()).unwrap(), Up::Commit(_)));

    // --- a broker, or somebody who has taken it over

    // "Commitments are closed", by somebody else, by nobody, and for somebody else's ears: nothing is shown.
    let closed = Closed { assignment: dear.assignment, reveal_by_ms: now_ms() + 60_000 };
    let stranger = IdentityKey::generate();
    let before = (hub.content.count(), agent.status().refused_frames);
    let forged = hub.seal_as(&stranger, device, &closed);
    let mut broken = hub.seal(device, &closed);
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let misled = hub.seal(stranger.address(), &closed);
    // Out of date, and of a counter that something else had.
    let surplus = Verdict {
        assignment: AssignmentId([6; 16]),
        judgement: Judgement::Surplus,
        owed: Amount::ZERO,
        explanation: Bounded(""),
        earned: None,
    };
    let counter = hub.next_counter();
    let first = sealed(&hub, device, counter, now_ms() + 60_000, &surplus);
    hub.publish(device, Kind::Result, first).await;
    let later = hub.next_counter();
    let stale = sealed(&hub, device, later, now_ms() - 3_600_000, &closed);
    let used = sealed(&hub, device, counter, now_ms() + 60_000, &closed);
    // Of a kind that is not for this topic, and too long for any frame.
    let cancel = Cancel { assignment: dear.assignment, explanation: Bounded("give it up") };
    let elsewhere = hub.seal(device, &cancel);
    for frame in
        [forged, broken, misled, stale, used.clone(), used, elsewhere, vec![7; MAX_FRAME], Vec::new()]
    {
        hub.publish(device, Kind::Result, frame).await;
    }
    hub.hear_nothing(&[Kind::Result, Kind::Log], MOMENT).await;
    assert_eq!(hub.content.count(), before.0, "content left the device before commitments were closed");
    let status = agent.status();
    assert!(status.connected && status.refused_frames >= before.1 + 8, "{before:?} {status:?}");

    // A wrong time: greetings that answer nothing, and a certificate that nobody asked for.
    let told_ms = agent.status().time_ms.unwrap();
    let unwanted = [dear.assignment];
    for time_ms in [now_ms() + YEARS_MS, 1] {
        let welcome = Welcome {
            nonce: Nonce([5; 16]),
            version: 1,
            time_ms,
            beat_ms: 1,
            lease_ms: 1,
            positions: List::default(),
            unwanted: List::new(&unwanted),
            main: Bounded("127.0.0.1:1"),
            content: Bounded("https://127.0.0.1:1"),
        };
        hub.say(device, &welcome).await;
        let granted = Granted {
            nonce: Nonce([5; 16]),
            time_ms,
            certificate: Bounded(b"none"),
            authorities: List::default(),
            valid_until_ms: time_ms,
            main: Bounded("127.0.0.1:1"),
            content: Bounded(""),
        };
        hub.say(device, &granted).await;
    }
    hub.hear_nothing(&[Kind::Result], MOMENT).await;
    let status = agent.status();
    assert!(status.time_ms.unwrap().abs_diff(told_ms) < 60_000, "{told_ms} became {:?}", status.time_ms);
    assert!(status.connected && status.tasks.len() == 1, "{status:?}");

    // --- a hub that does not keep its word

    hub.say(device, &closed).await;
    let reveal = revealed(&hub.hear(&[Kind::Result]).await);
    assert_eq!((reveal.cause, reveal.exit_code), (Cause::Exited, 0));
    let (_, receipt) = check(&hub, device, &dear, &reveal);
    assert_eq!(receipt.price, dear.price, "the device signs for what was agreed");
    // A voucher for less than the receipts that it names, and one for receipts that are none.
    hub.pay(device, Amount::from_units(1), &[receipt]).await;
    hub.pay(device, Amount::SNM, &[sosna_protocol::eip712::Receipt { result: Hash([1; 32]), ..receipt }])
        .await;
    hub.hear_nothing(&[Kind::Pay], MOMENT).await;
    assert_eq!(agent.status().earnings.voucher, "0");
    accept_verdict(&mut hub, device, &receipt, Amount::SNM).await;
    assert_eq!(agent.status().earnings.voucher, "1");

    // Paid twice for one task is as wrong as less than before.
    hub.pay(device, Amount::from_units(1), &[]).await;
    hub.hear_nothing(&[Kind::Pay], MOMENT).await;
    let status = agent.status();
    assert_eq!((status.earnings.voucher.as_str(), status.earnings.open.as_str()), ("1", "0"), "{status:?}");

    // A judgement that owes less than the price for work that is accepted, without a voucher: it stays open.
    let next = Assign { commits: false, ..work(&hub) };
    hub.say(device, &next).await;
    accepted(&hub.hear(&[Kind::Work]).await);
    let reveal = revealed(&hub.hear(&[Kind::Result]).await);
    let (_, receipt) = check(&hub, device, &next, &reveal);
    let verdict = Verdict {
        assignment: next.assignment,
        judgement: Judgement::Accepted,
        owed: Amount::from_units(1),
        explanation: Bounded("that is enough"),
        earned: None,
    };
    hub.say(device, &verdict).await;
    hub.hear_nothing(&[Kind::Pay], MOMENT).await;
    assert_eq!(agent.status().earnings.voucher, "1");

    // After all that, an honest voucher counts, and the device is in order.
    let sum = Amount::SNM.checked_add(Amount::SNM).unwrap();
    hub.pay(device, sum, &[receipt]).await;
    let heard = hub.hear(&[Kind::Pay]).await;
    let pay::Up::Held(held) = pay::Up::read(&heard.frame()).unwrap() else { panic!("no voucher is held") };
    assert_eq!(held.cumulative, sum);
    assert_eq!(containers_left(folder.path()).await, 0);
    assert!(agent.status().tasks.is_empty());
    assert!(agent.stop().0.success());
}
