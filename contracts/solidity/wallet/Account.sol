// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

/// @notice What a wallet keeps of one device, in one word, so that a payment changes one: to whom it is paid (160 bits),
/// the largest share of a payment that whoever relays it may keep, in thousandths (7 bits), and what was ever paid to it
/// (89 bits: more than the whole supply of SNM).
type Account is uint256;

using {payee, shareCap, paid, withPaid} for Account global;

uint256 constant PAID_BITS = 89;
uint256 constant SHARE_BITS = 7;
/// @dev The most that a wallet can ever pay to one device.
uint256 constant MOST_PAID = (1 << PAID_BITS) - 1;
/// @dev The most that a device can let a relayer keep, in thousandths.
uint256 constant MOST_SHARE = 100;

function account(address payee_, uint256 shareCap_, uint256 paid_) pure returns (Account) {
    return Account.wrap(uint256(uint160(payee_)) << (PAID_BITS + SHARE_BITS) | shareCap_ << PAID_BITS | paid_);
}

function payee(Account self) pure returns (address) {
    return address(uint160(Account.unwrap(self) >> (PAID_BITS + SHARE_BITS)));
}

function shareCap(Account self) pure returns (uint256) {
    return (Account.unwrap(self) >> PAID_BITS) & ((1 << SHARE_BITS) - 1);
}

function paid(Account self) pure returns (uint256) {
    return Account.unwrap(self) & MOST_PAID;
}

/// @dev The amount is at most MOST_PAID.
function withPaid(Account self, uint256 amount) pure returns (Account) {
    return Account.wrap((Account.unwrap(self) & ~MOST_PAID) | amount);
}
