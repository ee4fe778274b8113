//! Devices and their certificates.

use sosna_protocol::{
    Address, Amount, Hash,
    resources::{Arch, Ask, Class, Resources},
};

use crate::{
    StoreError, Tx,
    column::{amount, bytes, int, integer, maybe_bytes, maybe_text, text, word, words},
    sql::Query,
};
use rusqlite::Row;

words! {
    /// How far a device is trusted.
    DeviceState {
        /// New: replicated, paid after a delay, small exposure.
        Probation = "probation",
        /// Like any other.
        Trusted = "trusted",
        /// It spoke with two voices (a cloned card): nothing new for it until the operator has looked.
        Quarantined = "quarantined",
        /// Cut off for good.
        Revoked = "revoked",
    }
}

/// A device as it was enrolled, as it last described itself, and as it has proved to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its name.
    pub address: Address,
    /// Whose it is.
    pub owner: Address,
    /// Whether the operator has admitted the owner.
    pub owner_admitted: bool,
    /// How far it is trusted.
    pub state: DeviceState,
    /// Whether it gets nothing new.
    pub draining: bool,
    /// A name for people.
    pub hostname: String,
    /// A JSON object.
    pub labels: String,
    /// The key to which secrets for it are sealed.
    pub encryption_key: Hash,
    /// What it said of itself.
    pub described: Described,
    /// When it was enrolled.
    pub enrolled_ms: u64,
    /// When it last said anything.
    pub last_seen_ms: u64,
    /// Results that were right.
    pub valid: u64,
    /// Results that were wrong.
    pub invalid: u64,
    /// Assignments that came to nothing.
    pub failed: u64,
    /// Right results that others confirmed, since the last wrong one.
    pub consecutive: u64,
}

/// What a device says of itself when it greets.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Architecture and level.
    pub class: Class,
    /// The agent's version.
    pub agent: String,
    /// All that it lends.
    pub resources: Resources,
    /// Its price list.
    pub ask: Ask,
    /// Limits that it cannot enforce, a JSON array of texts.
    pub missing_limits: String,
    /// What it is willing to be owed without a voucher; `None` where it does not say.
    pub exposure_limit: Option<Amount>,
    /// What it is part of.
    pub setting: Setting,
}

/// What a device says, for people, of what is around its agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setting {
    /// The image that the agent is part of, a JSON object; `None` on any other system.
    pub system: Option<String>,
    /// Whether its traffic costs money.
    pub metered: bool,
    /// Its owner's labels, a JSON object; empty where it has said nothing.
    pub labels: String,
}

/// A device that enrols.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDevice {
    /// Its name.
    pub address: Address,
    /// Whose it becomes.
    pub owner: Address,
    /// By which token (its secret's hash).
    pub token: Hash,
    /// A name for people.
    pub hostname: String,
    /// The token's labels.
    pub labels: String,
    /// What it is.
    pub class: Class,
    /// The agent's version.
    pub agent: String,
    /// The key to which secrets for it are sealed.
    pub encryption_key: Hash,
    /// When.
    pub enrolled_ms: u64,
}

/// A certificate that the hub has issued to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its serial number.
    pub serial: Vec<u8>,
    /// Whose it is.
    pub device: Address,
    /// When it was issued.
    pub issued_ms: u64,
    /// When it ends.
    pub not_after_ms: u64,
}

const DEVICES: &str = "SELECT devices.*, owners.admitted AS owner_admitted FROM devices
    JOIN owners ON owners.address = devices.owner";

pub(crate) fn class_number(class: Class) -> i64 {
    i64::from(class.arch as u8) << 8 | i64::from(class.level)
}

pub(crate) fn class_of(number: i64) -> Option<Class> {
    let [arch, level] = u16::try_from(number).ok()?.to_be_bytes();
    Some(Class { arch: Arch::ALL.into_iter().find(|known| *known as u8 == arch)?, level })
}

fn device(row: &Row<'_>) -> Result<Device, StoreError> {
    Ok(Device {
        address: Address(bytes(row, "address")?),
        owner: Address(bytes(row, "owner")?),
        owner_admitted: integer::<u8>(row, "owner_admitted")? != 0,
        state: word(row, "state", DeviceState::from_word)?,
        draining: integer::<u8>(row, "draining")? != 0,
        hostname: text(row, "hostname")?,
        labels: text(row, "labels")?,
        encryption_key: Hash(bytes(row, "encryption_key")?),
        described: Described {
            class: class_of(integer(row, "class")?).ok_or(StoreError::Column { name: "class" })?,
            agent: text(row, "agent")?,
            resources: Resources {
                cpu_millis: integer(row, "cpu_millis")?,
                memory: integer(row, "memory")?,
                disk: integer(row, "disk")?,
                inodes: integer(row, "inodes")?,
                pids: integer(row, "pids")?,
            },
            ask: Ask {
                core_second: amount(row, "core_second")?,
                gib_second: amount(row, "gib_second")?,
                minimum: amount(row, "minimum")?,
            },
            missing_limits: text(row, "missing_limits")?,
            exposure_limit: maybe_bytes(row, "exposure_limit")?.map(Amount::from_be_bytes),
            setting: Setting {
                system: maybe_text(row, "system")?,
                metered: integer::<u8>(row, "metered")? != 0,
                labels: text(row, "owner_labels")?,
            },
        },
        enrolled_ms: integer(row, "enrolled_ms")?,
        last_seen_ms: integer(row, "last_seen_ms")?,
        valid: integer(row, "valid")?,
        invalid: integer(row, "invalid")?,
        failed: integer(row, "failed")?,
        consecutive: integer(row, "consecutive")?,
    })
}

impl Tx {
    /// Adds a device on probation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_device(&mut self, new: &NewDevice) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO devices (address, owner, token, state, hostname, labels, class, agent, encryption_key,
                core_second, gib_second, minimum, enrolled_ms, last_seen_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, zeroblob(16), zeroblob(16), zeroblob(16), ?, ?)",
        );
        let query = query
            .bind(&new.address.0[..])
            .bind(&new.owner.0[..])
            .bind(&new.token.0[..])
            .bind(DeviceState::Probation.word())
            .bind(&new.hostname)
            .bind(&new.labels)
            .bind(class_number(new.class))
            .bind(&new.agent)
            .bind(&new.encryption_key.0[..])
            .bind(int(new.enrolled_ms))
            .bind(int(new.enrolled_ms));
        self.run(query).await.map(drop)
    }

    /// Remembers what a device says of itself.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn describe_device(
        &mut self,
        address: &Address,
        described: &Described,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "UPDATE devices SET class = ?, agent = ?, cpu_millis = ?, memory = ?, disk = ?, inodes = ?, pids = ?,
                core_second = ?, gib_second = ?, minimum = ?, missing_limits = ?, exposure_limit = ?,
                system = ?, metered = ?, owner_labels = ?, last_seen_ms = ? WHERE address = ?",
        );
        let query = query
            .bind(class_number(described.class))
            .bind(&described.agent)
            .bind(described.resources.cpu_millis)
            .bind(int(described.resources.memory))
            .bind(int(described.resources.disk))
            .bind(int(described.resources.inodes))
            .bind(described.resources.pids)
            .bind(described.ask.core_second.to_be_bytes().to_vec())
            .bind(described.ask.gib_second.to_be_bytes().to_vec())
            .bind(described.ask.minimum.to_be_bytes().to_vec())
            .bind(&described.missing_limits)
            .bind(described.exposure_limit.map(|limit| limit.to_be_bytes().to_vec()))
            .bind(described.setting.system.as_deref())
            .bind(i64::from(described.setting.metered))
            .bind(&described.setting.labels)
            .bind(int(now_ms))
            .bind(&address.0[..]);
        self.run(query).await.map(drop)
    }

    /// A device.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn device(&mut self, address: &Address) -> Result<Option<Device>, StoreError> {
        let sql = const_format(DEVICES, " WHERE devices.address = ?");
        self.one(Query::new(sql).bind(&address.0[..]), device).await
    }

    /// Every device, in the order in which they came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn devices(&mut self) -> Result<Vec<Device>, StoreError> {
        let sql = const_format(DEVICES, " ORDER BY devices.enrolled_ms, devices.address");
        self.all(Query::new(sql), device).await
    }

    /// Remembers when a device last said anything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn saw_device(&mut self, address: &Address, now_ms: u64) -> Result<(), StoreError> {
        let query = Query::new("UPDATE devices SET last_seen_ms = ? WHERE address = ?");
        self.run(query.bind(int(now_ms)).bind(&address.0[..])).await.map(drop)
    }

    /// Changes how far a device is trusted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_device_state(
        &mut self,
        address: &Address,
        state: DeviceState,
    ) -> Result<bool, StoreError> {
        let query = Query::new("UPDATE devices SET state = ? WHERE address = ?");
        Ok(self.run(query.bind(state.word()).bind(&address.0[..])).await? > 0)
    }

    /// Lets a device get new work, or no more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_device_draining(
        &mut self,
        address: &Address,
        draining: bool,
    ) -> Result<bool, StoreError> {
        let query = Query::new("UPDATE devices SET draining = ? WHERE address = ?");
        Ok(self.run(query.bind(draining).bind(&address.0[..])).await? > 0)
    }

    /// Replaces a device's labels (a JSON object).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_device_labels(&mut self, address: &Address, labels: &str) -> Result<bool, StoreError> {
        let query = Query::new("UPDATE devices SET labels = ? WHERE address = ?");
        Ok(self.run(query.bind(labels).bind(&address.0[..])).await? > 0)
    }

    /// Remembers a certificate.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_certificate(&mut self, certificate: &Certificate) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO certificates (serial, device, issued_ms, not_after_ms) VALUES (?, ?, ?, ?)",
        );
        let query = query
            .bind(&certificate.serial[..])
            .bind(&certificate.device.0[..])
            .bind(int(certificate.issued_ms))
            .bind(int(certificate.not_after_ms));
        self.run(query).await.map(drop)
    }

    /// Whether a certificate was issued to this device and not revoked since.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn certificate_holds(&mut self, device: &Address, serial: &[u8]) -> Result<bool, StoreError> {
        let query =
            Query::new("SELECT 1 FROM certificates WHERE serial = ? AND device = ? AND revoked_ms IS NULL");
        Ok(self.one(query.bind(serial).bind(&device.0[..]), |_| Ok(())).await?.is_some())
    }

    /// Revokes every certificate of a device.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_certificates(&mut self, device: &Address, now_ms: u64) -> Result<(), StoreError> {
        let query =
            Query::new("UPDATE certificates SET revoked_ms = ? WHERE device = ? AND revoked_ms IS NULL");
        self.run(query.bind(int(now_ms)).bind(&device.0[..])).await.map(drop)
    }
}

/// Two constant pieces of SQL as one text.
fn const_format(head: &'static str, tail: &'static str) -> String {
    [head, tail].concat()
}
