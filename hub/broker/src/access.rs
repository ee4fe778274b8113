//! Who may use which names. Pure functions: no sessions, no clock, no engine.
//!
//! A device may publish to `u/<its shard>/<itself>/<kind>` and subscribe to exactly `c/<itself>/<kind>`; on the
//! bootstrap listener only to the kind that enrols, which is refused everywhere else. There are no wildcards, no
//! `$` topics, no shared subscriptions: a name that is not literally one of these is refused.

use sosna_protocol::{
    Address,
    topic::{Kind, Topic, shard_of},
};

/// What stands before the device's name in the client id of a bootstrap session.
pub(crate) const BOOTSTRAP_PREFIX: &str = "boot-";

/// On which listener a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Realm {
    /// With a certificate.
    Main,
    /// Without one.
    Bootstrap,
}

impl Realm {
    /// Whether `kind` is spoken on this listener.
    fn speaks(self, kind: Kind) -> bool {
        (kind == Kind::Enrol) == (self == Self::Bootstrap)
    }

    /// The device that a client id names on this listener, in the one form that is accepted.
    pub(crate) fn device_of(self, client_id: &str) -> Option<Address> {
        match self {
            Self::Main => device_named(client_id),
            Self::Bootstrap => device_named(client_id.strip_prefix(BOOTSTRAP_PREFIX)?),
        }
    }

    /// The client id of `device` on this listener.
    pub(crate) fn client_id(self, device: &Address) -> String {
        match self {
            Self::Main => device.to_string(),
            Self::Bootstrap => format!("{BOOTSTRAP_PREFIX}{device}"),
        }
    }
}

/// Why a name or a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("this is not a name that a device may publish to")]
    PublishName,
    #[error("this is not a name that a device may subscribe to")]
    SubscribeName,
    #[error("the name is another device's")]
    Another,
    #[error("the shard is not the device's")]
    Shard,
    #[error("this kind of message is not spoken on this listener")]
    Kind,
    #[error("retained messages are not accepted")]
    Retained,
    #[error("quality of service 2 is not accepted")]
    Quality,
}

/// Forty lower-case hexadecimal digits, nothing else: no `0x`, no upper case, and so none of `/ + # $`.
pub(crate) fn device_named(text: &str) -> Option<Address> {
    let address: Address = text.parse().ok()?;
    (address.to_string() == text).then_some(address)
}

/// What `device` says when it publishes to `topic`.
pub(crate) fn may_publish(realm: Realm, device: &Address, topic: &str) -> Result<Kind, Refusal> {
    match Topic::parse(topic) {
        Some(Topic::Up { device: named, .. }) if named != *device => Err(Refusal::Another),
        Some(Topic::Up { shard, .. }) if shard != shard_of(device) => Err(Refusal::Shard),
        Some(Topic::Up { kind, .. }) if realm.speaks(kind) => Ok(kind),
        Some(Topic::Up { .. }) => Err(Refusal::Kind),
        _ => Err(Refusal::PublishName),
    }
}

/// Whether `device` may subscribe to `filter`.
pub(crate) fn may_subscribe(realm: Realm, device: &Address, filter: &str) -> Result<Kind, Refusal> {
    match Topic::parse(filter) {
        Some(Topic::Down { device: named, .. }) if named != *device => Err(Refusal::Another),
        Some(Topic::Down { kind, .. }) if realm.speaks(kind) => Ok(kind),
        Some(Topic::Down { .. }) => Err(Refusal::Kind),
        _ => Err(Refusal::SubscribeName),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const DEVICE: Address = Address([0xab; 20]);
    const OTHER: Address = Address([0xcd; 20]);

    fn up(device: &Address, kind: &str) -> String {
        format!("u/{}/{device}/{kind}", shard_of(device))
    }

    #[test]
    fn a_device_publishes_under_its_own_name_only() {
        assert_eq!(may_publish(Realm::Main, &DEVICE, &up(&DEVICE, "work")), Ok(Kind::Work));
        assert_eq!(may_publish(Realm::Main, &DEVICE, &up(&OTHER, "work")), Err(Refusal::Another));
        let shard = shard_of(&DEVICE).wrapping_add(1);
        assert_eq!(
            may_publish(Realm::Main, &DEVICE, &format!("u/{shard}/{DEVICE}/work")),
            Err(Refusal::Shard)
        );
        let hers = DEVICE.to_string();
        let shard = shard_of(&DEVICE);
        for topic in [
            String::new(),
            format!("c/{hers}/work"),
            format!("u/{shard}/{hers}"),
            format!("u/{shard}/{hers}/"),
            format!("u/{shard}/{hers}/work/more"),
            format!("/u/{shard}/{hers}/work"),
            format!("u/0{shard}/{hers}/work"),
            format!("u/+{shard}/{hers}/work"),
            format!("u/{shard}/{}/work", hers.to_uppercase()),
            format!("u/{shard}/0x{hers}/work"),
            format!("u/{shard}/{hers}/Work"),
            format!("u/{shard}/{hers}/nonsense"),
            format!("u/{shard}/{hers}/work\0"),
            "$SYS/broker".into(),
            format!("$share/g/u/{shard}/{hers}/work"),
            "sosna/hubs".into(),
        ] {
            assert_eq!(may_publish(Realm::Main, &DEVICE, &topic), Err(Refusal::PublishName), "{topic:?}");
        }
    }

    #[test]
    fn a_device_subscribes_to_exact_names_of_its_own_only() {
        assert_eq!(may_subscribe(Realm::Main, &DEVICE, &format!("c/{DEVICE}/pay")), Ok(Kind::Pay));
        assert_eq!(may_subscribe(Realm::Main, &DEVICE, &format!("c/{OTHER}/pay")), Err(Refusal::Another));
        for filter in [
            "#".into(),
            "+/+/+".into(),
            format!("c/{DEVICE}/#"),
            format!("c/{DEVICE}/+"),
            "c/+/pay".into(),
            "$SYS/#".into(),
            format!("$share/g/c/{DEVICE}/pay"),
            format!("$exclusive/c/{DEVICE}/pay"),
            format!("$limit/1/c/{DEVICE}/pay"),
            up(&DEVICE, "work"),
            "u/#".into(),
        ] {
            assert_eq!(
                may_subscribe(Realm::Main, &DEVICE, &filter),
                Err(Refusal::SubscribeName),
                "{filter:?}"
            );
        }
    }

    #[test]
    fn enrolment_and_everything_else_never_meet() {
        for kind in Kind::ALL {
            let (topic, filter) = (up(&DEVICE, kind.word()), format!("c/{DEVICE}/{}", kind.word()));
            let (with, without) = if kind == Kind::Enrol {
                (Realm::Bootstrap, Realm::Main)
            } else {
                (Realm::Main, Realm::Bootstrap)
            };
            assert_eq!(may_publish(with, &DEVICE, &topic), Ok(kind));
            assert_eq!(may_subscribe(with, &DEVICE, &filter), Ok(kind));
            assert_eq!(may_publish(without, &DEVICE, &topic), Err(Refusal::Kind));
            assert_eq!(may_subscribe(without, &DEVICE, &filter), Err(Refusal::Kind));
        }
    }

    #[test]
    fn client_ids_have_one_form() {
        assert_eq!(Realm::Main.device_of(&DEVICE.to_string()), Some(DEVICE));
        assert_eq!(Realm::Bootstrap.device_of(&format!("boot-{DEVICE}")), Some(DEVICE));
        assert_eq!(Realm::Main.device_of(&Realm::Main.client_id(&DEVICE)), Some(DEVICE));
        assert_eq!(Realm::Bootstrap.device_of(&Realm::Bootstrap.client_id(&DEVICE)), Some(DEVICE));
        let hers = DEVICE.to_string();
        for id in ["", "+", "#", "a/b", "$SYS", &hers.to_uppercase(), &format!("0x{hers}"), &hers[1..]] {
            assert_eq!(Realm::Main.device_of(id), None, "{id:?}");
            assert_eq!(Realm::Bootstrap.device_of(id), None, "{id:?}");
            assert_eq!(Realm::Bootstrap.device_of(&format!("boot-{id}")), None, "{id:?}");
        }
        assert_eq!(Realm::Main.device_of(&format!("boot-{hers}")), None);
        assert_eq!(Realm::Bootstrap.device_of(&hers), None);
    }
}
