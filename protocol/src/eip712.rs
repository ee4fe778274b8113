//! Typed structures that are signed by EIP-712, so that contracts and wallets can check them as well as we do.

use crate::{
    amount::Amount,
    hash::{Hash, keccak256, word},
    identity::{Address, AssignmentId, Sign, Signature, SignatureError, TaskId},
    merkle,
    result::Usage,
};

/// The domain that separates signatures of different chains and wallets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The chain, or 0 where the hub settles on none.
    pub chain_id: u64,
    /// The contract on that chain that checks it: the hub's wallet, for buyers' vouchers the escrow; without a chain,
    /// the hub's own address.
    pub wallet: Address,
}

const DOMAIN_TYPE: &[u8] =
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

impl Domain {
    /// The domain of what a hub without a chain signs.
    #[must_use]
    pub const fn off_chain(hub: Address) -> Self {
        Self { chain_id: 0, wallet: hub }
    }

    /// The EIP-712 domain separator; name `Sosna`, version `1`.
    #[must_use]
    pub fn separator(&self) -> Hash {
        keccak256(&[
            &keccak256(&[DOMAIN_TYPE]).0,
            &keccak256(&[b"Sosna"]).0,
            &keccak256(&[b"1"]).0,
            &word(u128::from(self.chain_id)),
            &self.wallet.word(),
        ])
    }
}

/// A structure with an EIP-712 type.
pub trait Typed {
    /// The type as `encodeType` writes it.
    const TYPE: &'static str;

    /// `hashStruct`.
    fn struct_hash(&self) -> Hash;

    /// What is signed: `keccak(0x1901 ‖ domain ‖ struct)`.
    fn digest(&self, domain: &Domain) -> Hash {
        keccak256(&[&[0x19, 0x01], &domain.separator().0, &self.struct_hash().0])
    }

    /// Signs it.
    ///
    /// # Errors
    /// The signer's.
    fn sign<S: Sign + ?Sized>(&self, domain: &Domain, signer: &S) -> Result<Signature, S::Error> {
        signer.sign(&self.digest(domain))
    }

    /// Accepts only `signer`'s signature.
    ///
    /// # Errors
    /// [`SignatureError`].
    fn verify(&self, domain: &Domain, signature: &Signature, signer: &Address) -> Result<(), SignatureError> {
        signature.verify(&self.digest(domain), signer)
    }
}

fn type_hash<T: Typed + ?Sized>() -> [u8; 32] {
    keccak256(&[T::TYPE.as_bytes()]).0
}

/// A `bytes16` as an ABI word: padded on the right.
fn id_word(id: &[u8; 16]) -> [u8; 32] {
    let mut word = [0; 32];
    word[..16].copy_from_slice(id);
    word
}

/// What a hub owes a device in all, signed by the hub. A later one replaces an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voucher {
    /// To whom.
    pub device: Address,
    /// All that was ever earned, paid out or not.
    pub cumulative: Amount,
    /// The root ([`merkle::Domain::Receipts`]) over the digests of the receipts that this voucher is the first
    /// to cover, in the order in which they are listed beside it; all zero where it covers none.
    pub receipts: Hash,
}

impl Typed for Voucher {
    const TYPE: &'static str = "Voucher(address device,uint256 cumulative,bytes32 receipts)";

    fn struct_hash(&self) -> Hash {
        keccak256(&[
            &type_hash::<Self>(),
            &self.device.word(),
            &word(self.cumulative.units()),
            &self.receipts.0,
        ])
    }
}

/// What a device signs about a finished assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// For whom the work was done.
    pub hub: Address,
    /// Who did it.
    pub device: Address,
    /// Under which lease.
    pub assignment: AssignmentId,
    /// Of which task.
    pub task: TaskId,
    /// The manifest digest (SHA-256) of the image that ran.
    pub image: Hash,
    /// The root of the result tree.
    pub result: Hash,
    /// What it took. Reported, not proven; it never raises the price.
    pub usage: Usage,
    /// The price fixed at assignment.
    pub price: Amount,
}

impl Typed for Receipt {
    const TYPE: &'static str = "Receipt(address hub,address device,bytes16 assignment,bytes16 task,\
        bytes32 image,bytes32 result,uint64 cpuNanoseconds,uint64 peakMemory,uint64 wallMilliseconds,uint256 price)";

    fn struct_hash(&self) -> Hash {
        keccak256(&[
            &type_hash::<Self>(),
            &self.hub.word(),
            &self.device.word(),
            &id_word(&self.assignment.0),
            &id_word(&self.task.0),
            &self.image.0,
            &self.result.0,
            &word(u128::from(self.usage.cpu_ns)),
            &word(u128::from(self.usage.peak_memory)),
            &word(u128::from(self.usage.wall_ms)),
            &word(self.price.units()),
        ])
    }
}

/// The root over the digests of receipts that a voucher covers; all zero for none.
#[must_use]
pub fn receipts_root(digests: impl IntoIterator<Item = Hash>) -> Hash {
    let leaves = digests.into_iter().map(|digest| merkle::Domain::Receipts.leaf(&[digest.0]));
    merkle::root(merkle::Domain::Receipts, leaves).unwrap_or(Hash::ZERO)
}

/// What an owner signs so that devices which know a secret enrol as the owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// At which hub.
    pub hub: Address,
    /// The SHA-256 of the join token's secret.
    pub secret_hash: Hash,
    /// Seconds since 1970 after which nobody can enrol by it.
    pub expires: u64,
    /// How many devices may.
    pub uses: u32,
}

impl Typed for Delegation {
    const TYPE: &'static str = "Delegation(address hub,bytes32 secretHash,uint64 expires,uint32 uses)";

    fn struct_hash(&self) -> Hash {
        keccak256(&[
            &type_hash::<Self>(),
            &self.hub.word(),
            &self.secret_hash.0,
            &word(u128::from(self.expires)),
            &word(u128::from(self.uses)),
        ])
    }
}

/// That a device wants what its hub owes it, up to a cumulative amount, to be paid somewhere; signed by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payout {
    /// The hub's wallet.
    pub wallet: Address,
    /// Whose it is.
    pub device: Address,
    /// To whom it goes.
    pub to: Address,
    /// All that was ever earned, up to which it is paid.
    pub cumulative: Amount,
    /// The most that whoever relays it may keep.
    pub max_fee: Amount,
    /// Seconds since 1970 after which it is void.
    pub deadline: u64,
}

impl Typed for Payout {
    const TYPE: &'static str =
        "Payout(address wallet,address device,address to,uint256 cumulative,uint256 maxFee,uint256 deadline)";

    fn struct_hash(&self) -> Hash {
        keccak256(&[
            &type_hash::<Self>(),
            &self.wallet.word(),
            &self.device.word(),
            &self.to.word(),
            &word(self.cumulative.units()),
            &word(self.max_fee.units()),
            &word(u128::from(self.deadline)),
        ])
    }
}

/// To whom a device is paid from now on by whoever settles for many; signed by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payee {
    /// Whose it is.
    pub device: Address,
    /// To whom it goes.
    pub payee: Address,
    /// The largest share of a payment that whoever settles may keep, in thousandths.
    pub share_per_mille: u16,
    /// The wallet's count of what this device has registered, from 0, so that no old one comes back.
    pub nonce: u64,
    /// Seconds since 1970 after which it is void.
    pub deadline: u64,
}

impl Typed for Payee {
    const TYPE: &'static str =
        "Payee(address device,address payee,uint256 sharePerMille,uint256 nonce,uint256 deadline)";

    fn struct_hash(&self) -> Hash {
        keccak256(&[
            &type_hash::<Self>(),
            &self.device.word(),
            &self.payee.word(),
            &word(u128::from(self.share_per_mille)),
            &word(u128::from(self.nonce)),
            &word(u128::from(self.deadline)),
        ])
    }
}

/// What a buyer owes a hub in all, out of its deposit; signed by the buyer, for the escrow's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuyerVoucher {
    /// Who pays.
    pub buyer: Address,
    /// The hub's wallet, which is paid.
    pub wallet: Address,
    /// All that was ever owed, paid out or not.
    pub cumulative: Amount,
}

impl Typed for BuyerVoucher {
    const TYPE: &'static str = "BuyerVoucher(address buyer,address wallet,uint256 cumulative)";

    fn struct_hash(&self) -> Hash {
        keccak256(&[
            &type_hash::<Self>(),
            &self.buyer.word(),
            &self.wallet.word(),
            &word(self.cumulative.units()),
        ])
    }
}

/// That a buyer of a hub is whose deposits an account makes; signed by the account, for the escrow's domain. No contract
/// checks it: by it a hub knows whose credit a deposit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuyerAccount<'a> {
    /// Who deposits.
    pub account: Address,
    /// The hub's wallet.
    pub wallet: Address,
    /// The buyer's name at the hub.
    pub buyer: &'a str,
}

impl Typed for BuyerAccount<'_> {
    const TYPE: &'static str = "BuyerAccount(address account,address wallet,string buyer)";

    fn struct_hash(&self) -> Hash {
        keccak256(&[
            &type_hash::<Self>(),
            &self.account.word(),
            &self.wallet.word(),
            &keccak256(&[self.buyer.as_bytes()]).0,
        ])
    }
}
