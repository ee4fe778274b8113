//! EIP-712: separators, struct hashes, digests and signatures. Every expectation comes from alloy, which shares
//! neither types nor hashing with this crate.

use alloy_primitives::{B256, FixedBytes, U256};
use alloy_signer::SignerSync as _;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain};
use serde_json::json;
use sosna_protocol::{
    Address, Amount, Hash,
    eip712::{self, Domain, Typed},
    identity::{AssignmentId, TaskId},
    result::Usage,
};

use crate::{
    compare,
    support::{Key, hex},
};

pub mod sol {
    //! The same structures as a contract would declare them.
    #![allow(missing_debug_implementations, reason = "made by a macro")]
    alloy_sol_types::sol! {
        struct Voucher { address device; uint256 cumulative; bytes32 receipts; }
        struct Receipt {
            address hub; address device; bytes16 assignment; bytes16 task; bytes32 image; bytes32 result;
            uint64 cpuNanoseconds; uint64 peakMemory; uint64 wallMilliseconds; uint256 price;
        }
        struct Delegation { address hub; bytes32 secretHash; uint64 expires; uint32 uses; }
        struct Payout {
            address wallet; address device; address to; uint256 cumulative; uint256 maxFee; uint256 deadline;
        }
        struct Payee { address device; address payee; uint256 sharePerMille; uint256 nonce; uint256 deadline; }
        struct BuyerVoucher { address buyer; address wallet; uint256 cumulative; }
        struct BuyerAccount { address account; address wallet; string buyer; }
    }
}

fn address(address: Address) -> alloy_primitives::Address {
    address.0.into()
}

impl From<&eip712::Voucher> for sol::Voucher {
    fn from(ours: &eip712::Voucher) -> Self {
        Self {
            device: address(ours.device),
            cumulative: U256::from(ours.cumulative.units()),
            receipts: ours.receipts.0.into(),
        }
    }
}

impl From<&eip712::Receipt> for sol::Receipt {
    fn from(ours: &eip712::Receipt) -> Self {
        Self {
            hub: address(ours.hub),
            device: address(ours.device),
            assignment: ours.assignment.0.into(),
            task: ours.task.0.into(),
            image: ours.image.0.into(),
            result: ours.result.0.into(),
            cpuNanoseconds: ours.usage.cpu_ns,
            peakMemory: ours.usage.peak_memory,
            wallMilliseconds: ours.usage.wall_ms,
            price: U256::from(ours.price.units()),
        }
    }
}

impl From<&eip712::Delegation> for sol::Delegation {
    fn from(ours: &eip712::Delegation) -> Self {
        Self {
            hub: address(ours.hub),
            secretHash: ours.secret_hash.0.into(),
            expires: ours.expires,
            uses: ours.uses,
        }
    }
}

impl From<&eip712::Payout> for sol::Payout {
    fn from(ours: &eip712::Payout) -> Self {
        Self {
            wallet: address(ours.wallet),
            device: address(ours.device),
            to: address(ours.to),
            cumulative: U256::from(ours.cumulative.units()),
            maxFee: U256::from(ours.max_fee.units()),
            deadline: U256::from(ours.deadline),
        }
    }
}

impl From<&eip712::Payee> for sol::Payee {
    fn from(ours: &eip712::Payee) -> Self {
        Self {
            device: address(ours.device),
            payee: address(ours.payee),
            sharePerMille: U256::from(ours.share_per_mille),
            nonce: U256::from(ours.nonce),
            deadline: U256::from(ours.deadline),
        }
    }
}

impl From<&eip712::BuyerVoucher> for sol::BuyerVoucher {
    fn from(ours: &eip712::BuyerVoucher) -> Self {
        Self {
            buyer: address(ours.buyer),
            wallet: address(ours.wallet),
            cumulative: U256::from(ours.cumulative.units()),
        }
    }
}

impl From<&eip712::BuyerAccount<'_>> for sol::BuyerAccount {
    fn from(ours: &eip712::BuyerAccount<'_>) -> Self {
        Self { account: address(ours.account), wallet: address(ours.wallet), buyer: ours.buyer.to_owned() }
    }
}

pub fn alloy_domain(ours: &Domain) -> Eip712Domain {
    eip712_domain! {
        name: "Sosna", version: "1", chain_id: ours.chain_id, verifying_contract: address(ours.wallet),
    }
}

/// Checks one structure against alloy's opinion of it and describes it.
pub fn check<Ours, Theirs>(name: &str, ours: &Ours, domain: &Domain, key: u8) -> serde_json::Value
where
    Ours: Typed + std::fmt::Debug,
    Theirs: SolStruct + for<'a> From<&'a Ours>,
{
    let theirs = Theirs::from(ours);
    let signer = PrivateKeySigner::from_bytes(&FixedBytes([key; 32])).unwrap();
    let alloy_digest: B256 = theirs.eip712_signing_hash(&alloy_domain(domain));
    let alloy_signature = signer.sign_hash_sync(&alloy_digest).unwrap().as_bytes();

    assert_eq!(Ours::TYPE, Theirs::eip712_encode_type(), "{name}");
    assert_eq!(domain.separator().0, alloy_domain(domain).separator().0, "{name}");
    assert_eq!(ours.struct_hash().0, theirs.eip712_hash_struct().0, "{name}");
    assert_eq!(ours.digest(domain).0, alloy_digest.0, "{name}");
    let Ok(signature) = ours.sign(domain, &Key::new(key));
    assert_eq!(signature.0, alloy_signature, "{name}");
    assert_eq!(ours.verify(domain, &signature, &Address(signer.address().into())), Ok(()), "{name}");
    json!({
        "name": name,
        "type": Ours::TYPE,
        "chain_id": domain.chain_id.to_string(),
        "verifying_contract": domain.wallet.to_string(),
        "message": format!("{ours:?}"),
        "key": hex([key; 32]),
        "domain_separator": hex(domain.separator().0),
        "struct_hash": hex(ours.struct_hash().0),
        "digest": hex(alloy_digest.0),
        "signature": hex(alloy_signature),
    })
}

#[test]
fn typed() {
    let domains = [
        ("without a chain", Domain::off_chain(Address([0xab; 20]))),
        ("on a chain", Domain { chain_id: 31_337, wallet: Address([0x5f; 20]) }),
        ("largest chain", Domain { chain_id: u64::MAX, wallet: Address([0xff; 20]) }),
    ];
    let mut vectors = Vec::new();
    for (place, (domain_name, domain)) in domains.iter().enumerate() {
        let key = 0x31 + u8::try_from(place).unwrap();
        for (value_name, byte, number, amount) in [
            ("zero", 0_u8, 0_u64, 0_u128),
            ("usual", 0x5a, 1_700_000_000, 1_234_567_890_123_456_789),
            ("largest", 0xff, u64::MAX, u128::MAX),
        ] {
            let name = |kind: &str| format!("{kind}, {value_name}, {domain_name}");
            let (hash, amount) = (Hash([byte; 32]), Amount::from_units(amount));
            let voucher = eip712::Voucher { device: Address([byte; 20]), cumulative: amount, receipts: hash };
            let receipt = eip712::Receipt {
                hub: Address([byte; 20]),
                device: Address([byte / 2; 20]),
                assignment: AssignmentId([byte / 3; 16]),
                task: TaskId([byte / 5; 16]),
                image: hash,
                result: Hash([byte / 7; 32]),
                usage: Usage { cpu_ns: number, peak_memory: number / 3, wall_ms: number / 1000 },
                price: amount,
            };
            let delegation = eip712::Delegation {
                hub: Address([byte; 20]),
                secret_hash: hash,
                expires: number,
                uses: u32::try_from(number & u64::from(u32::MAX)).unwrap(),
            };
            vectors.push(check::<_, sol::Voucher>(&name("Voucher"), &voucher, domain, key));
            vectors.push(check::<_, sol::Receipt>(&name("Receipt"), &receipt, domain, key));
            vectors.push(check::<_, sol::Delegation>(&name("Delegation"), &delegation, domain, key));
            let payout = eip712::Payout {
                wallet: domain.wallet,
                device: Address([byte; 20]),
                to: Address([byte / 2; 20]),
                cumulative: amount,
                max_fee: Amount::from_units(amount.units() / 10),
                deadline: number,
            };
            let payee = eip712::Payee {
                device: Address([byte; 20]),
                payee: Address([byte / 2; 20]),
                share_per_mille: u16::from(byte) * 257,
                nonce: number / 7,
                deadline: number,
            };
            let buyer_voucher = eip712::BuyerVoucher {
                buyer: Address([byte; 20]),
                wallet: Address([byte / 2; 20]),
                cumulative: amount,
            };
            vectors.push(check::<_, sol::Payout>(&name("Payout"), &payout, domain, key));
            vectors.push(check::<_, sol::Payee>(&name("Payee"), &payee, domain, key));
            vectors.push(check::<_, sol::BuyerVoucher>(&name("BuyerVoucher"), &buyer_voucher, domain, key));
            let buyer_account = eip712::BuyerAccount {
                account: Address([byte; 20]),
                wallet: Address([byte / 2; 20]),
                buyer: match value_name {
                    "zero" => "",
                    "usual" => "alice",
                    // More than a block of the hash function has, and more than ASCII.
                    _ => "Жанна-d’Arc-2".repeat(12).leak(),
                },
            };
            vectors.push(check::<_, sol::BuyerAccount>(&name("BuyerAccount"), &buyer_account, domain, key));
        }
    }
    compare(
        "typed",
        "EIP-712 structures, domain Sosna version 1; hashes and signatures are alloy's.",
        vectors,
    );
}
