// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {EscrowBase} from "./EscrowBase.sol";

/// @title Services that are paid by the second
/// @notice From the hub's acceptance on, what is due grows with time up to what the buyer has put in. Either side can end
/// it at any moment; what is due by then is the hub's, and the rest the buyer's.
abstract contract Streams is EscrowBase {
    using SafeCast for uint256;

    /// @notice A service that is paid for.
    struct Stream {
        address buyer;
        /// @dev When the hub accepted; 0 before.
        uint40 since;
        bool isOver;
        address wallet;
        /// @dev Units a second.
        uint128 rate;
        /// @dev All that was put in.
        uint128 put;
        /// @dev What the hub has of it.
        uint128 collected;
        bytes32 subject;
    }

    Stream[] private _streams;

    /// @notice A buyer offers a service to be paid for.
    event StreamOpened(
        uint256 indexed id, address indexed buyer, address indexed wallet, uint256 rate, bytes32 subject
    );
    /// @notice The hub serves from now on.
    event StreamStarted(uint256 indexed id);
    /// @notice There is more to be paid from.
    event StreamFunded(uint256 indexed id, uint256 amount);
    /// @notice The hub was paid.
    event StreamCollected(uint256 indexed id, uint256 amount);
    /// @notice It is over, and so much went back to the buyer.
    event StreamStopped(uint256 indexed id, uint256 toBuyer);

    /// @notice It has begun.
    error HasStarted(uint256 id);
    /// @notice It is over.
    error IsOver(uint256 id);

    /// @notice A service.
    function stream(uint256 id) external view returns (Stream memory) {
        return _streams[id];
    }

    /// @notice How many there were.
    function streams() external view returns (uint256) {
        return _streams.length;
    }

    /// @notice What the hub could collect now.
    function due(uint256 id) public view returns (uint256) {
        Stream storage its = _streams[id];
        if (its.since == 0 || its.isOver) {
            return 0;
        }
        // What was collected may be part of a second that {fundStream} has begun anew.
        return Math.saturatingSub(Math.min((block.timestamp - its.since) * its.rate, its.put), its.collected);
    }

    /// @notice Offers to pay for a service by the second.
    /// @param rate Units a second.
    /// @param amount What is put in at first.
    function openStream(address wallet, uint256 rate, uint256 amount, bytes32 subject)
        external
        onlyWallets(wallet)
        returns (uint256 id)
    {
        require(rate != 0, NoAmount());
        id = _streams.length;
        _streams.push(
            Stream({
                buyer: msg.sender,
                since: 0,
                isOver: false,
                wallet: wallet,
                rate: rate.toUint128(),
                put: amount.toUint128(),
                collected: 0,
                subject: subject
            })
        );
        emit StreamOpened(id, msg.sender, wallet, rate, subject);
        emit StreamFunded(id, amount);
        _take(msg.sender, amount);
    }

    /// @notice The hub accepts, and serves from now on.
    function startStream(uint256 id) external {
        Stream storage its = _open(id);
        _requireHub(its.wallet);
        require(its.since == 0, HasStarted(id));
        its.since = uint40(block.timestamp);
        emit StreamStarted(id);
    }

    /// @notice Puts more in. Anybody may. The time in which a service was dry is not paid for.
    function fundStream(uint256 id, uint256 amount) external {
        Stream storage its = _open(id);
        uint256 paidFor = its.put / its.rate;
        if (its.since != 0 && block.timestamp - its.since > paidFor) {
            its.since = uint40(block.timestamp - paidFor);
        }
        its.put = (uint256(its.put) + amount).toUint128();
        emit StreamFunded(id, amount);
        _take(msg.sender, amount);
    }

    /// @notice Pays the hub what is due. Anybody may.
    function collect(uint256 id) external {
        Stream storage its = _open(id);
        _collect(id, its);
    }

    /// @notice Ends it.
    function stopStream(uint256 id) external {
        Stream storage its = _open(id);
        if (msg.sender != its.buyer) {
            _requireHub(its.wallet);
        }
        _collect(id, its);
        its.isOver = true;
        uint256 left = its.put - its.collected;
        emit StreamStopped(id, left);
        _give(its.buyer, left);
    }

    function _open(uint256 id) private view returns (Stream storage its) {
        its = _streams[id];
        require(!its.isOver, IsOver(id));
    }

    function _collect(uint256 id, Stream storage its) private {
        uint256 amount = due(id);
        if (amount != 0) {
            its.collected += uint128(amount);
            emit StreamCollected(id, amount);
            _give(its.wallet, amount);
        }
    }
}
