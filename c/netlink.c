/* A netlink request and its acknowledgement, as network devices are set up with. */
#include <errno.h>
#include <sys/socket.h>
#include <linux/netlink.h>
#include "interp.h"
#include "sys.h"

/* What the kernel says beyond the errno (NETLINK_EXT_ACK); `size` bytes of the answer arrived. */
static void read_netlink_text(struct bunc_state *state, const struct nlmsghdr *head, size_t size)
{
	const struct nlmsgerr *error = (const void *)(head + 1);
	size_t at = sizeof(*head) + sizeof(*error);
	if (!(head->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	/* Unless NETLINK_CAP_ACK is set, the refused message comes back whole. */
	if (!(head->nlmsg_flags & NLM_F_CAPPED))
		at += NLMSG_ALIGN(error->msg.nlmsg_len) - sizeof(error->msg);
	while (at + sizeof(struct nlattr) <= size) {
		const struct nlattr *attr = (const void *)((const char *)head + at);
		if (attr->nla_len < sizeof(*attr) || attr->nla_len > size - at)
			return;
		/* The text is ended by NUL, which is part of the length. */
		if (attr->nla_type == NLMSGERR_ATTR_MSG && attr->nla_len > sizeof(*attr) + 1)
			bunc_say(state, (const char *)(attr + 1), attr->nla_len - sizeof(*attr) - 1);
		at += NLA_ALIGN(attr->nla_len);
	}
}

long bunc_netlink(struct bunc_state *state, int sock, const void *message, size_t size)
{
	const struct nlmsghdr *request = message;
	union {
		struct nlmsghdr head;
		char bytes[4096];
	} answer;
	const struct nlmsgerr *error = (const void *)(&answer.head + 1);
	if (size < sizeof(*request) || request->nlmsg_len != size)
		return -EINVAL;
	long n = sys6(__NR_sendto, sock, (long)message, (long)size, 0, 0, 0);
	if (n < 0)
		return n;
	/* Notifications and answers to an earlier request that failed half-way are passed over. */
	do {
		n = sys6(__NR_recvfrom, sock, (long)&answer, sizeof(answer), 0, 0, 0);
		if (n < 0 && n != -EINTR)
			return n;
		if (n >= 0 && (size_t)n < sizeof(answer.head))
			return -EPROTO;
	} while (n < 0 || answer.head.nlmsg_type != NLMSG_ERROR ||
		 answer.head.nlmsg_seq != request->nlmsg_seq);
	if ((size_t)n < sizeof(answer.head) + sizeof(*error))
		return -EPROTO;
	if (error->error < 0)
		read_netlink_text(state, &answer.head, (size_t)n);
	return error->error;
}
