// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {EscrowBase} from "./EscrowBase.sol";

/// @title Single large deals
/// @notice The money is here from the start. The buyer's confirmation releases it; a dispute is the court's; and whoever
/// does nothing in time loses the right to, so that no party can hold the other's money for ever.
abstract contract Deals is EscrowBase {
    using SafeCast for uint256;

    /// @notice Where a deal stands.
    enum DealPhase {
        /// @dev There is no such deal.
        None,
        /// @dev Offered and paid in.
        Open,
        /// @dev The hub works.
        Accepted,
        /// @dev The buyer looks at the result.
        Delivered,
        /// @dev The court does.
        Disputed,
        /// @dev Paid to the hub.
        Confirmed,
        /// @dev Divided by the court.
        Resolved,
        /// @dev Back to the buyer, who took the offer back.
        Cancelled,
        /// @dev Somebody did nothing in time.
        TimedOut
    }

    /// @notice A deal.
    struct Deal {
        address buyer;
        DealPhase phase;
        /// @dev Until when the next step must come.
        uint40 until;
        address wallet;
        uint40 deliverWithin;
        uint40 confirmWithin;
        uint128 amount;
        /// @dev What is to be done, as a hash; the parties have the text.
        bytes32 subject;
    }

    /// @notice Seconds that the court has.
    uint256 public constant COURT_TIME = 30 days;
    /// @dev Times beyond it are a mistake.
    uint256 private constant LONGEST = 3650 days;

    Deal[] private _deals;

    /// @notice A buyer offers a deal.
    event DealOpened(
        uint256 indexed id, address indexed buyer, address indexed wallet, uint256 amount, bytes32 subject
    );
    /// @notice A deal is somewhere else.
    event DealMoved(uint256 indexed id, DealPhase phase, uint256 until);
    /// @notice The hub has delivered.
    event DealDelivered(uint256 indexed id, bytes32 result);
    /// @notice The buyer disputes what was delivered.
    event DealDisputed(uint256 indexed id, bytes32 reason);
    /// @notice A deal is over; so much went to the hub and so much back to the buyer.
    event DealEnded(uint256 indexed id, DealPhase phase, uint256 toHub, uint256 toBuyer);

    /// @notice Not in this phase.
    error WrongDealPhase(uint256 id, DealPhase phase);
    /// @notice No more than the deal's amount can be divided.
    error TooMuchForHub(uint256 toHub, uint256 amount);
    /// @notice Longer than ten years.
    error TooLong(uint256 time);

    /// @dev Who decides disputes.
    function _court() internal view virtual returns (address);

    /// @notice A deal.
    function deal(uint256 id) external view returns (Deal memory) {
        return _deals[id];
    }

    /// @notice How many deals there were.
    function deals() external view returns (uint256) {
        return _deals.length;
    }

    /// @notice Offers a deal and pays it in.
    /// @param acceptWithin Seconds that the offer stands.
    /// @param deliverWithin Seconds that the hub has from its acceptance.
    /// @param confirmWithin Seconds that the buyer has from the delivery.
    function open(
        address wallet,
        uint256 amount,
        bytes32 subject,
        uint256 acceptWithin,
        uint256 deliverWithin,
        uint256 confirmWithin
    ) external onlyWallets(wallet) returns (uint256 id) {
        uint256 longest = acceptWithin > deliverWithin ? acceptWithin : deliverWithin;
        longest = longest > confirmWithin ? longest : confirmWithin;
        require(longest <= LONGEST, TooLong(longest));
        id = _deals.length;
        uint256 until = block.timestamp + acceptWithin;
        _deals.push(
            Deal({
                buyer: msg.sender,
                phase: DealPhase.Open,
                until: uint40(until),
                wallet: wallet,
                deliverWithin: uint40(deliverWithin),
                confirmWithin: uint40(confirmWithin),
                amount: amount.toUint128(),
                subject: subject
            })
        );
        emit DealOpened(id, msg.sender, wallet, amount, subject);
        emit DealMoved(id, DealPhase.Open, until);
        _take(msg.sender, amount);
    }

    /// @notice The buyer takes an offer back that nobody has accepted.
    function cancel(uint256 id) external {
        Deal storage its = _in(id, DealPhase.Open);
        require(msg.sender == its.buyer, WrongParty(msg.sender));
        _end(id, its, DealPhase.Cancelled, 0);
    }

    /// @notice The hub accepts.
    function accept(uint256 id) external {
        Deal storage its = _inTime(id, DealPhase.Open);
        _requireHub(its.wallet);
        _move(id, its, DealPhase.Accepted, its.deliverWithin);
    }

    /// @notice The hub delivers.
    /// @param result The result's root or hash.
    function deliver(uint256 id, bytes32 result) external {
        Deal storage its = _inTime(id, DealPhase.Accepted);
        _requireHub(its.wallet);
        emit DealDelivered(id, result);
        _move(id, its, DealPhase.Delivered, its.confirmWithin);
    }

    /// @notice The buyer confirms, at any time once the hub is at work: the hub is paid.
    function confirm(uint256 id) external {
        Deal storage its = _deals[id];
        bool canBe =
            its.phase == DealPhase.Accepted || its.phase == DealPhase.Delivered || its.phase == DealPhase.Disputed;
        require(canBe, WrongDealPhase(id, its.phase));
        require(msg.sender == its.buyer, WrongParty(msg.sender));
        _end(id, its, DealPhase.Confirmed, its.amount);
    }

    /// @notice The buyer disputes what was delivered.
    /// @param reason A hash of the grounds.
    function dispute(uint256 id, bytes32 reason) external {
        Deal storage its = _inTime(id, DealPhase.Delivered);
        require(msg.sender == its.buyer, WrongParty(msg.sender));
        emit DealDisputed(id, reason);
        _move(id, its, DealPhase.Disputed, COURT_TIME);
    }

    /// @notice The court divides a disputed deal.
    function resolve(uint256 id, uint256 toHub) external {
        Deal storage its = _in(id, DealPhase.Disputed);
        require(msg.sender == _court(), WrongParty(msg.sender));
        require(toHub <= its.amount, TooMuchForHub(toHub, its.amount));
        _end(id, its, DealPhase.Resolved, toHub);
    }

    /// @notice Ends a deal whose next step did not come in time: without acceptance or delivery the buyer has the money
    /// back, without a word about what was delivered the hub gets it, and without the court each gets half. Anybody may.
    function timeOut(uint256 id) external {
        Deal storage its = _deals[id];
        require(block.timestamp > its.until, TooEarly(its.until));
        if (its.phase == DealPhase.Open || its.phase == DealPhase.Accepted) {
            _end(id, its, DealPhase.TimedOut, 0);
        } else if (its.phase == DealPhase.Delivered) {
            _end(id, its, DealPhase.TimedOut, its.amount);
        } else if (its.phase == DealPhase.Disputed) {
            _end(id, its, DealPhase.TimedOut, its.amount / 2);
        } else {
            revert WrongDealPhase(id, its.phase);
        }
    }

    function _in(uint256 id, DealPhase phase) private view returns (Deal storage its) {
        its = _deals[id];
        require(its.phase == phase, WrongDealPhase(id, its.phase));
    }

    function _inTime(uint256 id, DealPhase phase) private view returns (Deal storage its) {
        its = _in(id, phase);
        require(block.timestamp <= its.until, TooLate(its.until));
    }

    function _move(uint256 id, Deal storage its, DealPhase phase, uint256 time) private {
        uint256 until = block.timestamp + time;
        (its.phase, its.until) = (phase, uint40(until));
        emit DealMoved(id, phase, until);
    }

    function _end(uint256 id, Deal storage its, DealPhase phase, uint256 toHub) private {
        uint256 toBuyer = its.amount - toHub;
        its.phase = phase;
        emit DealEnded(id, phase, toHub, toBuyer);
        _give(its.wallet, toHub);
        _give(its.buyer, toBuyer);
    }
}
