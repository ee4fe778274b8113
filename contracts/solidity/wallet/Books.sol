// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Phase} from "./Phase.sol";

/// @title A wallet's books
/// @notice What it holds for whom: what is frozen, locked, committed and paid, and the roots that devices claim by.
abstract contract Books {
    using SafeCast for uint256;

    /// @dev What is read or written with every root, in one word.
    struct Status {
        Phase phase;
        // Which of the two roots is the newest.
        uint8 newest;
        // When the newest can be claimed by; the other can.
        uint40 activeAt;
        uint16 activationHours;
        uint8 lockPercent;
        // What the newest root has added to `committed`.
        uint96 added;
        uint80 frozen;
    }

    /// @dev Of all devices together, in one word.
    struct Sums {
        uint128 committed;
        uint128 paid;
    }

    /// @dev Of the whitepaper's payments together, in one word. Apart from the other sums: no root that promises more than
    /// its total can be paid of them.
    struct Pulls {
        uint128 approved;
        uint128 pulled;
    }

    /// @dev From a registration to payday, in one word.
    struct Period {
        // What was committed when it began: the lock is on what came since.
        uint128 committedBefore;
        uint40 since;
        uint32 length;
        uint32 suspectDelay;
        uint16 feePerMille;
    }

    /// @dev The tag of the tree of payouts, in the manner of the protocol's other trees.
    bytes32 internal constant TREE = keccak256("sosna payout tree v1");

    /// @notice What devices are paid in.
    IERC20 public immutable token;

    Status internal _status;
    Sums internal _sums;
    Period internal _period;
    bytes32[2] internal _roots;
    /// @dev When it was suspected; from a ban on, when it was banned.
    uint40 internal _judgedAt;
    Pulls internal _pulls;

    /// @notice Not in this phase.
    error WrongPhase(Phase phase);
    /// @notice The balance does not cover it.
    /// @param needed What the balance would have to be.
    error Underfunded(uint256 needed, uint256 balance);
    /// @notice The root is empty, or the proof leads to none that can be claimed by.
    error NoSuchRoot(bytes32 root);

    constructor(IERC20 token_) {
        token = token_;
    }

    /// @notice Who owns it.
    function owner() public view returns (address who) {
        (who,) = _whose();
    }

    /// @notice The address of the hub's key, which signs vouchers.
    function hub() public view returns (address key) {
        (, key) = _whose();
    }

    /// @notice Its phase.
    function phase() external view returns (Phase) {
        return _status.phase;
    }

    /// @notice What is frozen until payday.
    function frozen() external view returns (uint256) {
        return _status.frozen;
    }

    /// @notice What is locked until payday, besides what is committed.
    function locked() public view returns (uint256) {
        return _locked(_status, uint256(_sums.committed) + _pulls.approved);
    }

    /// @notice All that was ever committed to devices, by roots, vouchers and approvals.
    function committed() external view returns (uint256) {
        return uint256(_sums.committed) + _pulls.approved;
    }

    /// @notice All that was ever paid to devices.
    function paid() external view returns (uint256) {
        return uint256(_sums.paid) + _pulls.pulled;
    }

    /// @notice The part of {paid} that roots and vouchers have paid: what {post} wants to know of.
    function settled() external view returns (uint256) {
        return _sums.paid;
    }

    /// @notice What of the balance is neither frozen, locked nor committed: what the hub can commit, with its lock.
    function free() external view returns (uint256) {
        uint256 needed = _needed(_status, _sums);
        uint256 balance = token.balanceOf(address(this));
        return balance < needed ? 0 : balance - needed;
    }

    /// @notice The newest root and since when, or from when on, it can be claimed by; and the one before it.
    function roots() external view returns (bytes32 newest, uint256 activeAt, bytes32 before) {
        uint8 place = _status.newest;
        return (_roots[place], _status.activeAt, _roots[1 - place]);
    }

    /// @notice When the period ends; 0 where none has begun.
    function paydayAt() external view returns (uint256) {
        return _status.phase == Phase.Registered ? uint256(_period.since) + _period.length : 0;
    }

    /// @notice When a suspected wallet can be banned, and when what nobody has claimed of a banned one lapses; else 0.
    function judgement() external view returns (uint256) {
        bool isJudged = _status.phase == Phase.Suspected || _status.phase == Phase.Punished;
        return isJudged ? uint256(_judgedAt) + _period.suspectDelay : 0;
    }

    /// @dev Adds to what was paid, of what roots have committed.
    function _countPaid(Status memory status, uint256 amount) internal {
        Sums memory sums = _sums;
        uint256 all = uint256(sums.paid) + amount;
        sums.paid = all.toUint128();
        if (all > sums.committed) {
            // The hub has promised devices more than the total that it posted.
            _requirePaying(status);
            sums.committed = sums.paid;
            _requireFunds(status, sums, amount);
        }
        _sums = sums;
    }

    /// @dev Commits what is about to be paid by vouchers, out of what is free.
    function _commitPaid(Status memory status, uint256 amount) internal {
        Sums memory sums = _sums;
        sums.committed = (uint256(sums.committed) + amount).toUint128();
        sums.paid = (uint256(sums.paid) + amount).toUint128();
        _sums = sums;
        _requireFunds(status, sums, amount);
    }

    function _requirePaying(Status memory status) internal pure {
        require(status.phase == Phase.Registered || status.phase == Phase.Idle, WrongPhase(status.phase));
    }

    /// @dev That the balance covers what it must, and an amount that is about to leave.
    function _requireFunds(Status memory status, Sums memory sums, uint256 leaving) internal view {
        uint256 needed = _needed(status, sums) + leaving;
        uint256 balance = token.balanceOf(address(this));
        require(balance >= needed, Underfunded(needed, balance));
    }

    function _needed(Status memory status, Sums memory sums) internal view returns (uint256) {
        Pulls memory pulls = _pulls;
        return status.frozen + _locked(status, uint256(sums.committed) + pulls.approved) + (sums.committed - sums.paid)
            + (pulls.approved - pulls.pulled);
    }

    function _locked(Status memory status, uint256 all) internal view returns (uint256) {
        if (status.phase != Phase.Registered && status.phase != Phase.Suspected) {
            return 0;
        }
        // From the sum, so that no rounding adds up.
        return Math.ceilDiv((all - _period.committedBefore) * status.lockPercent, 100);
    }

    function _requireRoot(Status memory status, bytes32 top, uint256 count) internal view {
        bytes32 root = keccak256(abi.encode(TREE, count, top));
        uint8 newest = status.newest;
        // The same root may have been posted twice.
        bool isActive = (block.timestamp >= status.activeAt && root == _roots[newest]) || root == _roots[1 - newest];
        require(isActive, NoSuchRoot(root));
    }

    function _whose() internal view returns (address owner_, address hub_) {
        return abi.decode(Clones.fetchCloneArgs(address(this)), (address, address));
    }
}
