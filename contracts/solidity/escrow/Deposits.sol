// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {domainSeparator} from "../wallet/Signed.sol";
import {EscrowBase} from "./EscrowBase.sol";

/// @title A buyer's money at a hub, for many small jobs
/// @notice The buyer deposits once and confirms work by cumulative vouchers, off the chain; the hub brings the last of
/// them. What the buyer takes back is announced in time for that.
abstract contract Deposits is EscrowBase {
    using SafeCast for uint256;

    /// @notice What a buyer has at a hub.
    struct Deposit {
        /// @dev All that was ever put in, less what was taken back.
        uint128 put;
        /// @dev All that the hub was ever paid of it.
        uint128 claimed;
        /// @dev When the buyer can take back; 0 where that was not announced.
        uint40 openFrom;
    }

    /// @notice Seconds between an announcement and taking back: the hub's time to bring what it holds.
    uint256 public constant NOTICE = 7 days;
    bytes32 private constant BUYER_VOUCHER_TYPE =
        keccak256("BuyerVoucher(address buyer,address wallet,uint256 cumulative)");

    mapping(address buyer => mapping(address wallet => Deposit)) private _deposits;

    /// @notice A buyer has put something in.
    event Deposited(address indexed buyer, address indexed wallet, uint256 amount);
    /// @notice The hub was paid for confirmed work.
    event Redeemed(address indexed buyer, address indexed wallet, uint256 amount, uint256 cumulative);
    /// @notice A buyer will take back.
    event NoticeGiven(address indexed buyer, address indexed wallet, uint256 openFrom);
    /// @notice A buyer has taken back.
    event TakenBack(address indexed buyer, address indexed wallet, uint256 amount);

    /// @notice There is less.
    error TooLittle(uint256 wanted, uint256 left);
    /// @notice It has been paid.
    error NothingDue(uint256 cumulative, uint256 claimed);
    /// @notice The buyer did not sign that.
    error NotConfirmed(address buyer);
    /// @notice That was not announced.
    error NoNotice();

    /// @notice What a buyer has at a hub.
    function depositOf(address buyer, address wallet) external view returns (Deposit memory) {
        return _deposits[buyer][wallet];
    }

    /// @notice Puts something in.
    function deposit(address wallet, uint256 amount) public onlyWallets(wallet) {
        Deposit storage mine = _deposits[msg.sender][wallet];
        mine.put = (uint256(mine.put) + amount).toUint128();
        emit Deposited(msg.sender, wallet, amount);
        _take(msg.sender, amount);
    }

    /// @notice The same with the approval by signature (ERC-2612).
    function depositWithPermit(address wallet, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        // One that somebody else has used already has done its work.
        try IERC20Permit(address(token)).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        deposit(wallet, amount);
    }

    /// @notice Pays the hub what the buyer has confirmed. Anybody may.
    /// @param cumulative All that the buyer owes the hub.
    /// @param signature The buyer's, of `BuyerVoucher(buyer, wallet, cumulative)`.
    function redeem(address buyer, address wallet, uint256 cumulative, bytes calldata signature) external {
        bytes32 structHash = keccak256(abi.encode(BUYER_VOUCHER_TYPE, buyer, wallet, cumulative));
        bytes32 digest = MessageHashUtils.toTypedDataHash(domainSeparator(address(this)), structHash);
        require(SignatureChecker.isValidSignatureNow(buyer, digest, signature), NotConfirmed(buyer));
        Deposit storage its = _deposits[buyer][wallet];
        require(cumulative > its.claimed, NothingDue(cumulative, its.claimed));
        require(cumulative <= its.put, TooLittle(cumulative, its.put));
        uint256 amount = cumulative - its.claimed;
        its.claimed = cumulative.toUint128();
        emit Redeemed(buyer, wallet, amount, cumulative);
        _give(wallet, amount);
    }

    /// @notice Announces that the caller will take back.
    function giveNotice(address wallet) external {
        uint256 openFrom = block.timestamp + NOTICE;
        _deposits[msg.sender][wallet].openFrom = uint40(openFrom);
        emit NoticeGiven(msg.sender, wallet, openFrom);
    }

    /// @notice Takes back what the hub has not claimed, once the announcement is old enough. Ends the announcement.
    function takeBack(address wallet, uint256 amount) external {
        Deposit storage mine = _deposits[msg.sender][wallet];
        require(mine.openFrom != 0, NoNotice());
        require(block.timestamp >= mine.openFrom, TooEarly(mine.openFrom));
        uint256 left = uint256(mine.put) - mine.claimed;
        require(amount <= left, TooLittle(amount, left));
        mine.put -= uint128(amount);
        mine.openFrom = 0;
        emit TakenBack(msg.sender, wallet, amount);
        _give(msg.sender, amount);
    }
}
