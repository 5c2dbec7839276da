"""`show peers` as HAProxy 3.0 and 2.6 wrote it."""

from lbconfig.peers import PeerSeen, read_peers

OF_3_0 = """0x7f215f297a00: [10/Jan/2027:14:27:56] id=preflight_replication disabled=0 flags=0x22100003 task_calls=302
  0x7f215f230e40: id=lb-2(local,inactive) addr=192.168.110.11:7778 app_state=STOPPED learn_state=NOTASSIGNED last_status=NONE last_hdshk=<NEVER>
        reconnect=<NEVER> heartbeat=<NEVER> confirm=0 tx_hbt=0 rx_hbt=0 no_hbt=0 new_conn=0 proto_err=0 coll=0
        flags=0x0
        shared tables:
          0x7f215f231740 local_id=4 remote_id=0 flags=0x0 remote_data=0x0
              table:0x7f215e2d6e00 id=HTTPS update=2 localupdate=2 commitupdate=0 refcnt=1
  0x7f215f230d80: id=lb-1(remote,active) addr=192.168.110.10:7778 app_state=RUNNING learn_state=FINISHED last_status=ESTA last_hdshk=1s
        shared tables:
          0x7f215f231800 local_id=4 remote_id=4 flags=0x0 remote_data=0x80001
              table:0x7f215e2d6e00 id=HTTPS update=2 localupdate=2 commitupdate=0 refcnt=1
        Dictionary cache not dumped (use "show peers dict")
          0x7f215f231680 local_id=3 remote_id=3 flags=0x0 remote_data=0x80001
              table:0x7f215e2d6400 id=DMWL update=2 localupdate=2 commitupdate=0 refcnt=1
"""  # noqa: E501  as HAProxy writes it
OF_2_6 = """0x55d5a8: [27/Nov/2026:00:00:01] id=preflight_replication disabled=0 flags=0x613 task_calls=5
  0x55d600: id=preflight(local,inactive) addr=127.0.110.10:7778 last_status=NAME last_hdshk=0s
        reconnect=<NEVER> heartbeat=<NEVER> confirm=0 tx_hbt=0 rx_hbt=0 no_hbt=0 new_conn=1 proto_err=0 coll=0
        flags=0x0
"""


def test_a_remote_peer_is_established_and_shares_its_tables() -> None:
    assert read_peers(OF_3_0) == [
        PeerSeen(name="lb-2", is_local=True, address="192.168.110.11:7778", status="NONE", tables=("HTTPS",)),
        PeerSeen(name="lb-1", is_local=False, address="192.168.110.10:7778", status="ESTA", tables=("DMWL", "HTTPS")),
    ]
    assert [peer.is_established for peer in read_peers(OF_3_0)] == [False, True]


def test_a_process_alone_has_itself_as_a_peer() -> None:
    assert read_peers(OF_2_6) == [PeerSeen(name="preflight", is_local=True, address="127.0.110.10:7778", status="NAME")]


def test_without_peers_there_are_none() -> None:
    assert read_peers("\n") == []
